"""The probes of a run on this machine, one after the other; no Slurm is needed."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eval.card import task_name
from launch.probes.element import ELEMENT_VARIABLE
from launch.probes.jobs import Round, lease_for_probe, release_probe
from launch.probes.states import ProbeState, has_report, probe_states, whole_checkpoints

POLL_SECONDS = 0.2


class InlineProbes:
    """Probes what has no report, each in a process of its own: one that crashes ends nothing else.

    Args:
        run: The run.
        tasks: By name or folder.
        attempts: How often one is tried at most.
        stop: Set where the probe that runs is to be ended, and no other begun.
    """

    def __init__(
        self, run: Path, tasks: Sequence[str], attempts: int, stop: threading.Event
    ) -> None:
        self._run = run.absolute()
        self._tasks = tasks
        self._attempts = attempts
        self._stop = stop
        self._tried: Counter[str] = Counter()

    def __call__(self) -> Round:
        """Probe the oldest checkpoint that lacks a report, if there is any.

        One only, so that what it found is told before the next begins.
        """
        found = Round(states=self._states())
        waiting: list[ProbeState] = []
        for probe in (one for one in found.states if one.state != "reported"):
            if probe.attempts < self._attempts:
                waiting.append(probe)
                lease_for_probe(probe.checkpoint, probe.task)
            else:
                found.given_up.append(probe)
                release_probe(probe.checkpoint, probe.task)
        if not waiting or self._stop.is_set():
            return found
        first = waiting[0]
        self._probe(first)
        if not has_report(first.checkpoint, first.task) and not self._stop.is_set():
            self._tried[_key(first)] += 1
            found.failed.append(replace(first, attempts=first.attempts + 1))
        return replace(found, more_waits=True)

    def _states(self) -> list[ProbeState]:
        return [
            replace(
                probe,
                attempts=self._tried[_key(probe)],
                job_id=f"inline-{probe.checkpoint.folder.name}-{task_name(probe.task)}",
            )
            for probe in probe_states(whole_checkpoints(self._run), self._tasks, [])
        ]

    def _probe(self, probe: ProbeState) -> None:
        """Wait for the process; told to stop, end it."""
        assert probe.log is not None
        probe.log.parent.mkdir(exist_ok=True)
        checkpoint = probe.checkpoint
        command = [sys.executable, "-u", "-m", "launch.probes.element"]
        command += [str(checkpoint.folder), checkpoint.digest, probe.task]
        with probe.log.open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | {ELEMENT_VARIABLE: "0"}
            )
            try:
                while process.poll() is None and not self._stop.wait(POLL_SECONDS):
                    pass
            finally:
                process.terminate()
                process.wait()


def _key(probe: ProbeState) -> str:
    return f"{probe.checkpoint.digest} {probe.task}"
