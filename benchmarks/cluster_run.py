"""What the scenes of the cluster drill share: where it takes place, and a run as a Slurm job."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from drill_looks import INTERVAL, expect, last_step, same_losses, same_state
from drill_run import Ground
from slurm_cluster import ENDED, SlurmCluster

from launch.cluster import ClusterConfig
from launch.guard_config import GuardConfig
from launch.jobs import submit_pretrain
from launch.run_config import RunConfig, prepare_run
from launch.starts import Start, read_starts

WAIT_SECONDS = 300.0
"""What is waited for longer than this is a hang."""

BEFORE = INTERVAL + 1
"""Steps that a run has done before something happens to it."""

MOST_LOST = 2 * INTERVAL
"""Steps that a kill may cost: the next checkpoint may have been under way."""

SCRIPTS = Path(__file__).parents[1] / "slurm"
TWO_NODES = ClusterConfig(nodes=2, ranks_per_node=1, walltime_minutes=30)


@dataclass(frozen=True)
class ClusterGround:
    """Where the drill takes place: folder, shards and undisturbed run, and the cluster."""

    ground: Ground
    cluster: SlurmCluster

    def config(self, name: str, slurm: ClusterConfig = TWO_NODES) -> RunConfig:
        """Of a run of two ranks on two nodes, as long as the undisturbed one."""
        config = self.ground.config(self.ground.folder / name, GuardConfig())
        return replace(config, cluster="slurm", slurm=slurm)


class PretrainJob:
    """A run that is submitted, and what becomes of its job.

    Args:
        ground: Where.
        name: Of the run.
        slurm: What its job asks for.
        script: Submit `slurm/pretrain.sbatch` instead of what `triptych pretrain` writes.
    """

    def __init__(
        self,
        ground: ClusterGround,
        name: str,
        slurm: ClusterConfig = TWO_NODES,
        script: bool = False,
    ) -> None:
        self._ground, self._cluster = ground, ground.cluster
        self.config = ground.config(name, slurm)
        self.run = self.config.run
        prepare_run(self.config, resume=False)
        self.job_id = self.submit_script() if script else self.submit()

    def submit(self) -> str:
        """Give the run to Slurm, once more where it has ended."""
        self.job_id = submit_pretrain(self.run, self.config.slurm).job_id
        return self.job_id

    def submit_script(self) -> str:
        """The same by the script for sites that want their own."""
        logs = self.run / "logs"
        logs.mkdir(exist_ok=True)
        command = ["sbatch", "--parsable", f"--output={logs}/%j_script.out", "--cpus-per-task=1"]
        command += [str(SCRIPTS / "pretrain.sbatch"), str(self.run)]
        environment = os.environ | {"TRIPTYCH_PYTHON": sys.executable}
        answer = subprocess.run(
            command, env=environment, cwd=SCRIPTS.parent, capture_output=True, text=True, check=True
        )
        self.job_id = answer.stdout.strip()
        return self.job_id

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something, while the job goes on."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            state = self._cluster.state_of(self.job_id)
            expect(state not in ENDED, f"{state} before there was {what}: {self.said()[-400:]}")
            expect(time.monotonic() < deadline, f"a hang: no {what}: {self.said()[-400:]}")
            time.sleep(0.1)

    def until_steps(self, number: int) -> None:
        """Wait until the run has done so many steps."""
        self.until(lambda: last_step(self.run) >= number, f"step {number}")

    def until_started_again(self, times: int) -> float:
        """Wait until Slurm has started the job so many times more; the seconds that it took."""
        began = time.monotonic()
        self._cluster.wait_for_restart(self.job_id, times, WAIT_SECONDS)
        return time.monotonic() - began

    def ends(self, state: str = "COMPLETED") -> float:
        """Wait for the end of the job, which must be this one; the seconds that it took."""
        began = time.monotonic()
        seen = self._cluster.wait_for_job(self.job_id, WAIT_SECONDS)
        expect(seen == state, f"the job is {seen}, not {state}: {self.said()[-600:]}")
        return time.monotonic() - began

    def exit_code(self) -> int:
        """What the job's script ended with."""
        return int(self._cluster.shown(self.job_id)["ExitCode"].split(":")[0])

    def rank(self, number: int) -> int:
        """Process id of a rank."""
        return self._cluster.rank(self.job_id, number)

    def left_the_nodes(self) -> float:
        """Wait until the job is in the queue again; the seconds that it took."""
        began = time.monotonic()
        self.until(lambda: self._cluster.state_of(self.job_id) == "PENDING", "its stop")
        return time.monotonic() - began

    def kill_rank(self, number: int) -> None:
        """As the kernel does where memory runs out."""
        os.kill(self.rank(number), signal.SIGKILL)

    def starts(self) -> list[Start]:
        """Of the run so far."""
        return read_starts(self.run)

    def steps_lost(self) -> list[int]:
        """By start: steps that were done before and are done again."""
        return [start.furthest - start.from_step for start in self.starts()[1:]]

    def said(self) -> str:
        """What all ranks and scripts said."""
        logs = sorted((self.run / "logs").glob("*_*.*"))
        return "\n".join(log.read_text() for log in logs if log.suffix in (".err", ".out"))

    def refusals(self) -> list[str]:
        """Lines of it in which something is refused."""
        return re.findall(r"^triptych: .*$", self.said(), re.MULTILINE)

    def is_as_undisturbed(self, starts: int | None = None, most_lost: int = 0) -> list[int]:
        """All steps are done, and everything is bitwise as in a run that nothing happened to.

        Args:
            starts: How many there were, if that is certain.
            most_lost: How many steps one of them may have done again.

        Returns:
            The steps lost by each start.
        """
        total = self.config.pretrain.total_steps
        expect(last_step(self.run) == total, f"it is at step {last_step(self.run)} of {total}")
        same_losses(self.run, self._ground.ground.undisturbed)
        same_state(self.run, self._ground.ground.undisturbed)
        seen = len(self.starts())
        expect(starts in (None, seen), f"{seen} starts, not {starts}")
        lost = self.steps_lost()
        expect(max(lost, default=0) <= most_lost, f"{lost} steps were lost")
        return lost
