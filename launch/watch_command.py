"""`triptych watch`: see to it that every checkpoint of a run is probed."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Literal

import tyro

from data_sharding.folder_lock import HeldError
from eval.pages.run_pages import renew_pages_or_warn
from eval.probes.probe_report import report_from_json, score_line
from eval.records import read_json
from eval.tasks import BUILTIN_TASKS
from launch.cluster import ClusterConfig, SubmissionError
from launch.preemption import EXIT_COLLAPSED, EXIT_NOT_FINITE
from launch.probes.inline import InlineProbes
from launch.probes.jobs import PROBE_ATTEMPTS, SETTLE_SECONDS, Round, submit_missing_probes
from launch.probes.states import (
    ProbeSettings,
    ProbeState,
    Settling,
    probe_states,
    read_probe_settings,
    report_path,
    whole_checkpoints,
)
from launch.starts import read_starts

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class WatchCommand:
    """Probe each checkpoint of a run as it is committed, until the run is at its end or sick.

    What a run on a cluster submits itself is watched and, where it fails, submitted again.
    """

    cluster: Literal["slurm", "inline"] = "slurm"
    """As Slurm array jobs, or here, one after the other."""

    tasks: tuple[str, ...] = ()
    """Tasks, by name or folder; if not given, the run's `probe_tasks`."""

    every_seconds: float = 30.0
    """Time between two looks."""

    settle_seconds: float = SETTLE_SECONDS
    """How long after its end a probe's report may take to be seen here."""

    attempts: int = PROBE_ATTEMPTS
    """How often a probe that fails is tried."""

    slurm: ClusterConfig = field(default_factory=ClusterConfig)
    """What a Slurm job asks for; if not given, what the run asked for."""

    def __post_init__(self) -> None:
        if self.every_seconds <= 0.0 or self.settle_seconds < 0.0:
            raise ValueError(
                "every_seconds must be above 0 and settle_seconds not below, got "
                f"{self.every_seconds} and {self.settle_seconds}"
            )
        if self.attempts < 1:
            raise ValueError(f"attempts must be positive, got {self.attempts}")


def watch_command(arguments: list[str]) -> int:
    """`triptych watch`."""
    run = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    nothing = ProbeSettings(tasks=(), cluster=ClusterConfig(), total_steps=0)
    settings = read_probe_settings(run) if run else nothing
    command = tyro.cli(
        WatchCommand,
        args=arguments[1:] if run else arguments,
        prog="triptych watch RUN",
        default=WatchCommand(tasks=settings.tasks, slurm=settings.cluster),
    )
    if run is None:
        raise ValueError("give the run's folder first: triptych watch RUN")
    tasks = _checked_tasks(run, command.tasks)
    if command.cluster == "slurm" and shutil.which("squeue") is None:
        raise ValueError(
            "no squeue on PATH: watch from a Slurm login node, or probe here with --cluster inline"
        )
    with _stop_on_signals() as stop:
        if command.cluster == "slurm":
            look = partial(
                submit_missing_probes, run, tasks, command.slurm,
                Settling(command.settle_seconds), command.attempts,
            )  # fmt: skip
        else:
            look = InlineProbes(run, tasks, command.attempts, stop)
        return watch(run, tasks, settings.total_steps, look, stop, command.every_seconds)


def watch(
    run: Path,
    tasks: tuple[str, ...],
    total_steps: int,
    look: Callable[[], Round],
    stop: "Stop",
    every_seconds: float,
) -> int:
    """Look again and again, and say what is new.

    Args:
        run: The run.
        tasks: What is probed.
        total_steps: Steps of the whole run.
        look: Submits what is missing.
        stop: Whether to end before all is done.
        every_seconds: Time between two looks.

    Returns:
        0; 1 where probes were given up; 128 + the signal that asked to stop.
    """
    told, seen = _Told(run), {}
    print(f"{run}: watched; its checkpoints are probed on {', '.join(tasks)}", flush=True)
    while True:
        found = None
        try:
            found = look()
        except (SubmissionError, HeldError) as error:
            told.once(f"{run}: nothing could be submitted, and is tried again: {error}")
        # What has reported may be removed at once, so that it is remembered here.
        seen |= {one.digest: one for one in whole_checkpoints(run)}
        states = probe_states(list(seen.values()), tasks, [])
        told.reports([probe for probe in states if probe.state == "reported"])
        if found is not None:
            told.round(found)
            if _is_over(run, total_steps, found):
                return 1 if found.given_up else 0
        if stop.wait(0.0 if found and found.more_waits else every_seconds):
            print(f"{run}: watched no longer; what is queued stays queued", flush=True)
            return 128 + (stop.signal or 0)


def _is_over(run: Path, total_steps: int, found: Round) -> bool:
    """Whether no checkpoint will follow, and every probe has reported or was given up."""
    starts = read_starts(run)
    stopped_for_good = bool(starts) and starts[-1].code in (EXIT_COLLAPSED, EXIT_NOT_FINITE)
    final = stopped_for_good or any(probe.checkpoint.step >= total_steps for probe in found.states)
    reported = sum(probe.state == "reported" for probe in found.states)
    return final and reported + len(found.given_up) == len(found.states)


class _Told:
    """Says each thing once.

    Args:
        run: The run.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._reports: set[str] = set()
        self._lines: set[str] = set()

    def reports(self, reported: list[ProbeState]) -> None:
        """Scores that are new, in order of steps; the pages are drawn anew for them."""
        news = [
            one for one in reported if f"{one.place} {one.checkpoint.digest}" not in self._reports
        ]
        for probe in news:
            self._reports.add(f"{probe.place} {probe.checkpoint.digest}")
            report = report_from_json(read_json(report_path(probe.checkpoint, probe.task)))
            print(score_line(report), flush=True)
        if news and (choice := renew_pages_or_warn(self._run)) is not None:
            self.once(choice.sentence())

    def round(self, found: Round) -> None:
        """What failed and what was submitted."""
        for probe in found.failed:
            self.once(
                f"{probe.place}: job {probe.job_id} ended without a report (attempt "
                f"{probe.attempts}); its log: {probe.log}"
            )
        for probe in found.given_up:
            self.once(f"{probe.place}: given up after {probe.attempts} attempts")
        for job in found.submitted:
            self.once(f"{job.checkpoint}: job {job.job_id} probes {', '.join(job.tasks)}")

    def once(self, line: str) -> None:
        """A line that was not said before."""
        if line not in self._lines:
            self._lines.add(line)
            print(line, flush=True)


class Stop(threading.Event):
    """Set by a signal, whose number it keeps."""

    signal: int | None = None


@contextmanager
def _stop_on_signals() -> Iterator[Stop]:
    stop = Stop()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _checked_tasks(run: Path, tasks: tuple[str, ...]) -> tuple[str, ...]:
    if not tasks:
        raise ValueError(
            f"{run}: its configuration names no probe_tasks; say what to probe with --tasks"
        )
    for task in tasks:
        if task not in BUILTIN_TASKS and not Path(task).is_dir():
            raise ValueError(
                f"{task}: neither a task folder nor a built-in task ({', '.join(BUILTIN_TASKS)})"
            )
    return tuple(str(Path(task).absolute()) if Path(task).is_dir() else task for task in tasks)
