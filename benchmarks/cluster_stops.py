"""Scenes of the cluster drill: a run to its end, and all ways in which Slurm asks for a stop."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from cluster_run import BEFORE, TWO_NODES, ClusterGround, PretrainJob
from drill_looks import expect, last_step
from drill_run import Seen

from launch.preemption import EXIT_REQUEUE


def to_the_end(ground: ClusterGround) -> Seen:
    """A run on two nodes that nothing happens to; then its finished job is queued again."""
    job = PretrainJob(ground, "end")
    job.ends()
    job.is_as_undisturbed(starts=1)
    before = _files(job.run)
    ground.cluster.run("scontrol", "requeue", job.job_id)
    job.until_started_again(1)
    job.ends()
    changed = sorted(set(_files(job.run).items()) ^ set(before.items()))
    expect(not changed, f"queued again at its end, it wrote {changed}")
    return Seen(
        times=2, seen="as two local ranks; queued again: exit 0, nothing written", steps_lost=[]
    )


def asked_by_signal(ground: ClusterGround) -> Seen:
    """``scancel --signal=USR2`` to a job that `triptych pretrain` has submitted."""
    return _stopped(ground, PretrainJob(ground, "signal"), partial(signal_job, ground))


def asked_by_script(ground: ClusterGround) -> Seen:
    """The same to a job of slurm/pretrain.sbatch."""
    return _stopped(ground, PretrainJob(ground, "script", script=True), partial(signal_job, ground))


def asked_to_requeue(ground: ClusterGround) -> Seen:
    """``scontrol requeue``: TERM at once, KILL after KillWait."""

    def requeue(job: PretrainJob) -> None:
        ground.cluster.run("scontrol", "requeue", job.job_id)

    return _stopped(ground, PretrainJob(ground, "requeue"), requeue)


def preempted(ground: ClusterGround) -> Seen:
    """A job of a partition of higher priority wants all nodes."""
    urgent = []

    def preempt(job: PretrainJob) -> None:
        command = ["sbatch", "--parsable", "--partition=urgent", "--nodes=3", "--exclusive"]
        urgent.append(ground.cluster.run(*command, "--output=/dev/null", "--wrap=sleep 2").strip())

    seen = _stopped(ground, PretrainJob(ground, "preempted"), preempt)
    expect(ground.cluster.wait_for_job(urgent[0]) == "COMPLETED", "the urgent job did not run")
    return seen


def at_the_limit(ground: ClusterGround) -> Seen:
    """The time limit comes near."""
    short = replace(TWO_NODES, walltime_minutes=2, save_seconds=30)

    def wait(job: PretrainJob) -> None:
        # So that the run is not at its end by then; Slurm sends CONT along with its signal.
        os.kill(job.rank(1), signal.SIGSTOP)
        job.until(lambda: "SIGUSR2: stopping" in job.said(), "Slurm's signal")

    return _stopped(ground, PretrainJob(ground, "limit", short), wait)


def too_many_requeues(ground: ClusterGround) -> Seen:
    """A job that may not be queued again, and its run, which is submitted again."""
    job = PretrainJob(ground, "max-requeues", replace(TWO_NODES, max_requeues=0))
    job.until_steps(BEFORE)
    signal_job(ground, job)
    job.ends("FAILED")
    expect((code := job.exit_code()) == EXIT_REQUEUE, f"its exit code is {code}")
    told = "saved, and not queued again: slurm.max_requeues is 0"
    expect(told in job.said(), "the log does not tell why")
    job.submit()
    job.ends()
    return Seen(
        times=1,
        seen=f"exit {EXIT_REQUEUE}, the log tells; submitted again, same",
        steps_lost=job.is_as_undisturbed(starts=2),
    )


def signal_job(ground: ClusterGround, job: PretrainJob) -> None:
    """``scancel --signal=USR2``."""
    ground.cluster.run("scancel", "--signal=USR2", job.job_id)


def _stopped(ground: ClusterGround, job: PretrainJob, ask: Callable[[PretrainJob], None]) -> Seen:
    """Ask a running job to stop: it saves, is queued again, and goes on at the next sample."""
    job.until_steps(BEFORE)
    ask(job)
    stopped = job.left_the_nodes()
    reached = last_step(job.run)
    ground.cluster.run("scontrol", "update", f"jobid={job.job_id}", "TimeLimit=30")
    job.until_started_again(1)
    job.ends()
    lost = job.is_as_undisturbed(starts=2)
    code = goes_on_at(job, reached)
    return Seen(
        times=1,
        seen=f"saved at step {reached} (exit {code}), queued again, same",
        steps_lost=lost,
        seconds={"until the nodes are free": [stopped]},
    )


def goes_on_at(job: PretrainJob, reached: int) -> int | None:
    """The second start goes on where the first had stopped; with which code that ended."""
    first, second = job.starts()[:2]
    expect(second.from_step == reached, f"stopped at {reached}, it went on at {second.from_step}")
    return first.code


def _files(run: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of a run but its logs, to which Slurm itself appends."""
    found = (path for path in run.rglob("*") if path.is_file() and path.parent.name != "logs")
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}
