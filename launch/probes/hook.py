"""What rank 0 does after each checkpoint: nothing that training could notice."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launch.job_record import read_jobs
from launch.probes.jobs import lease_for_probe
from launch.probes.states import probe_job_name
from pretrain.checkpoint import CheckpointError, open_checkpoint

logger = logging.getLogger(__name__)

SUBMISSION_SECONDS = 300.0
"""How long the process that submits may take, a controller that does not answer included."""


class ProbeOnCheckpoint:
    """Has the probes of each committed checkpoint submitted; for rank 0's ``on_checkpoint``.

    It returns at once. What goes wrong is logged and never reaches the training.

    Args:
        run: The run; its ``config.json`` says what is asked of the cluster.
        tasks: What is probed.
    """

    def __init__(self, run: Path, tasks: tuple[str, ...]) -> None:
        self._run = run
        self._tasks = tasks
        # One thread, so that a slow controller piles up waiting work and not processes.
        self._submissions = ThreadPoolExecutor(max_workers=1, thread_name_prefix="submit-probe")

    def __call__(self, checkpoint_folder: Path) -> None:
        """Submit what is missing, in the background; the checkpoint is leased at once."""
        try:
            checkpoint = open_checkpoint(checkpoint_folder, verify=False)
            leases = [lease_for_probe(checkpoint, task) for task in self._tasks]
        except (CheckpointError, ValueError, OSError) as error:
            logger.warning("%s: no probes: %s", checkpoint_folder, error)
        else:
            name = probe_job_name(checkpoint.digest)
            self._submissions.submit(self._submit, checkpoint_folder.name, name, leases)

    def close(self) -> None:
        """Wait until everything is submitted; the interpreter's end does the same."""
        self._submissions.shutdown(wait=True)

    def _submit(self, checkpoint: str, name: str, leases: list[Path]) -> None:
        command = [sys.executable, "-m", "launch.probes.jobs", str(self._run)]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=SUBMISSION_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:  # it may be queued: the leases stay
            logger.warning("%s: no probes: %s", checkpoint, error)
            return
        except OSError as error:
            failure = str(error)
        else:
            logger.info("%s", answer.stdout.strip())
            if answer.returncode == 0:
                if answer.stderr.strip():
                    logger.warning("%s", answer.stderr.strip())
                return
            failure = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        logger.warning("%s: no probes for now: %s", checkpoint, failure)
        if not any(job.name == name for job in read_jobs(self._run)):
            for lease in leases:
                lease.unlink(missing_ok=True)
