"""A Slurm cluster, reached through submitit: ask for nodes, run one command on every rank."""

import contextlib
import io
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from launch.requeue import requeue_if_failed, requeue_if_saved

PROBE_REQUEUES = 2
"""How often a probe's own script queues it again after a failure."""

SITE_VARIABLES = ("SLURM_CONF", "SLURM_CONF_SERVER")


RequeueOn = Literal["saved", "failure"]
"""`saved`: where the command saved and stopped; `failure`: where it failed, unless refused."""


class SubmissionError(OSError):
    """Slurm did not take a job; the message is sbatch's own."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What one job asks Slurm for."""

    nodes: int = 1
    """Number of nodes."""

    ranks_per_node: int = 1
    """Processes on each node: as many as it has GPUs."""

    gpus_per_node: int = 0
    """GPUs on each node; 0 asks for none."""

    cpus_per_task: int = 1
    """CPU cores of each rank, loader processes included."""

    memory_gb: int | None = None
    """Memory of each node in GiB; None leaves it to the cluster."""

    walltime_minutes: int = 60
    """Time limit of a pretraining job, which is requeued and resumed at its end."""

    probe_walltime_minutes: int = 60
    """Time limit of a probe job."""

    partition: str | None = None
    """Queue; None is the cluster's default, as for the three that follow."""

    account: str | None = None
    """Whose budget pays."""

    qos: str | None = None
    """Quality of service."""

    constraint: str | None = None
    """Features that the nodes must have, such as `h100`."""

    setup: tuple[str, ...] = ()
    """Shell lines before the ranks start: modules, environment, `source slurm/nccl.env`."""

    container: tuple[str, ...] = ()
    """Words before the command on every rank, as in `apptainer exec --nv image.sif`."""

    save_seconds: int = 120
    """How long before its limit a job is told (SIGUSR2) to save and stop."""

    max_requeues: int = 100
    """How often a job that saved and stopped is queued again; the log says when it is not."""

    def __post_init__(self) -> None:
        for name in ("nodes", "ranks_per_node", "cpus_per_task", "walltime_minutes"):
            if getattr(self, name) < 1:
                raise ValueError(f"slurm.{name} must be positive, got {getattr(self, name)}")
        for name in ("gpus_per_node", "save_seconds", "max_requeues"):
            if getattr(self, name) < 0:
                raise ValueError(f"slurm.{name} must not be negative, got {getattr(self, name)}")
        if self.probe_walltime_minutes < 1:
            raise ValueError(
                f"slurm.probe_walltime_minutes must be positive, got {self.probe_walltime_minutes}"
            )
        if self.save_seconds >= 60 * self.walltime_minutes:
            raise ValueError(
                f"slurm.save_seconds {self.save_seconds} must be less than slurm.walltime_minutes "
                f"{self.walltime_minutes}: the job would be stopped as it starts"
            )
        if self.memory_gb is not None and self.memory_gb < 1:
            raise ValueError(f"slurm.memory_gb must be positive, got {self.memory_gb}")

    @property
    def world_size(self) -> int:
        """Ranks of a pretraining job."""
        return self.nodes * self.ranks_per_node

    def for_probe(self) -> "ClusterConfig":
        """One rank, at most one GPU, the probe's time limit, its number of requeues."""
        return replace(
            self,
            nodes=1,
            ranks_per_node=1,
            gpus_per_node=min(1, self.gpus_per_node),
            walltime_minutes=self.probe_walltime_minutes,
            save_seconds=min(self.save_seconds, 30),
            max_requeues=PROBE_REQUEUES,
        )

    def for_one_rank(self) -> "ClusterConfig":
        """One rank without a GPU, for an element of an array that needs nothing else."""
        return replace(self, nodes=1, ranks_per_node=1, gpus_per_node=0, max_requeues=0)


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """A job that Slurm has taken."""

    job_id: str
    name: str
    script: Path
    """What sbatch was given."""
    stdout: tuple[Path, ...]
    stderr: tuple[Path, ...]
    """Logs of each rank, appended to after a requeue; there once the rank has started."""


def submit_command(
    command: Sequence[str], name: str, logs: Path, cluster: ClusterConfig
) -> SubmittedJob:
    """Queue one command, run by every rank of a job, and return without waiting.

    No state of this process travels: no pickle, none of its Slurm or torchrun variables.

    Args:
        command: Program and arguments; relative paths are seen from the current folder.
        name: The job's name in the queue.
        logs: Folder for the script and the logs; every node must see it.
        cluster: What to ask for.

    Raises:
        ValueError: there is no Slurm on this machine.
        SubmissionError: sbatch refused the job.
    """
    job = _submit(make_executor(name, logs, cluster), command, name, cluster)
    return _submitted(job, name, logs, [(job.job_id, rank) for rank in range(job.num_tasks)])


def submit_array(
    command: Sequence[str],
    name: str,
    logs: Path,
    cluster: ClusterConfig,
    elements: Sequence[int],
    most_at_once: int | None = None,
    requeue_on: RequeueOn = "saved",
) -> SubmittedJob:
    """Queue one command as an array job of single ranks, and return without waiting.

    Args:
        command: Each element finds its number in SLURM_ARRAY_TASK_ID.
        name: The job's name in the queue.
        logs: Folder for the script and the logs; every node must see it.
        cluster: What each element asks for; see `ClusterConfig.for_one_rank`.
        elements: Numbers of the elements.
        most_at_once: How many may run at the same time; None is no limit.
        requeue_on: After what an element is queued again, at most ``cluster.max_requeues`` times.

    Raises:
        ValueError: there is no Slurm on this machine.
        SubmissionError: sbatch refused the job.
    """
    executor = make_executor(name, logs, cluster)
    limit = f"%{most_at_once}" if most_at_once else ""
    given = executor.parameters["additional_parameters"]
    # map_count only turns on the names of array logs; the line --array is the one given here.
    executor.parameters["map_count"] = len(elements)
    executor.parameters["additional_parameters"] = given | {"array": f"{_ranges(elements)}{limit}"}
    if requeue_on == "failure":
        executor.parameters["teardown"] = requeue_if_failed(cluster.max_requeues)
    job = _submit(executor, command, name, cluster)
    return _submitted(job, name, logs, [(f"{job.job_id}_{element}", 0) for element in elements])


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as Slurm writes them: ``0-4,7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def _submit(
    executor: submitit.SlurmExecutor, command: Sequence[str], name: str, cluster: ClusterConfig
) -> Any:  # noqa: ANN401 - submitit's job has no types
    # submitit's `submit` would pickle a function, and its process would stand between Slurm's
    # signals and the command; `_submit_command` hands srun the command itself.
    try:
        # submitit prints sbatch's complaint, which the error below holds.
        with _clean_environment(), contextlib.redirect_stderr(io.StringIO()):
            return executor._submit_command(shlex.join([*cluster.container, *command]))
    except (FailedJobError, FailedSubmissionError) as error:
        raise SubmissionError(
            f"{name}: sbatch refused the job: {_reason(error)} (asked for {_asked(cluster)})"
        ) from error


def _submitted(job: Any, name: str, logs: Path, ranks: Sequence[tuple[str, int]]) -> SubmittedJob:  # noqa: ANN401
    tasks = [submitit.SlurmJob(logs, job_id, [rank]) for job_id, rank in ranks]
    return SubmittedJob(
        job_id=job.job_id,
        name=name,
        script=job.paths.submission_file,
        stdout=tuple(task.paths.stdout for task in tasks),
        stderr=tuple(task.paths.stderr for task in tasks),
    )


def make_executor(name: str, logs: Path, cluster: ClusterConfig) -> submitit.SlurmExecutor:
    """Make submitit's executor for one job.

    Raises:
        ValueError: there is no Slurm on this machine.
    """
    missing = [program for program in ("sbatch", "srun") if shutil.which(program) is None]
    if missing:
        raise ValueError(f"no {' and no '.join(missing)} on PATH: submit from a Slurm login node")
    logs.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(logs)
    executor.update_parameters(**sbatch_parameters(name, cluster))
    return executor


def sbatch_parameters(name: str, cluster: ClusterConfig) -> dict[str, Any]:
    """What the job asks for, by submitit's names; options that are None are left out."""
    wanted = {
        "job_name": name,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.ranks_per_node,
        "gpus_per_node": cluster.gpus_per_node or None,
        "cpus_per_task": cluster.cpus_per_task,
        "mem": f"{cluster.memory_gb}GB" if cluster.memory_gb else None,
        "time": cluster.walltime_minutes,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "setup": list(cluster.setup) or None,
    }
    given = {option: value for option, value in wanted.items() if value is not None}
    return given | {
        "wckey": None,  # submitit's own default; a cluster may refuse keys it does not know
        "signal_delay_s": cluster.save_seconds,
        "additional_parameters": {"requeue": True, "open-mode": "append"},
        # One dead rank ends the step. srun no longer inherits the cores from sbatch (22.05).
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={cluster.cpus_per_task}"],
        "teardown": requeue_if_saved(cluster.max_requeues),
    }


@contextlib.contextmanager
def _clean_environment() -> Iterator[None]:
    """Without the variables of a surrounding job, but with those that say where Slurm is.

    submitit takes away all that begins with SLURM_, and without SLURM_CONF sbatch finds no
    cluster where the file is not in its usual place.
    """
    site = {name: os.environ[name] for name in SITE_VARIABLES if name in os.environ}
    with submitit.helpers.clean_env():
        os.environ.update(site)
        yield


def _asked(cluster: ClusterConfig) -> str:
    """What Slurm may refuse, by the names of the options."""
    names = ("partition", "account", "qos", "constraint", "nodes", "gpus_per_node", "memory_gb")
    return ", ".join(f"slurm.{name} {value}" for name in names if (value := getattr(cluster, name)))


def _reason(error: Exception) -> str:
    """The last line that sbatch wrote."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
