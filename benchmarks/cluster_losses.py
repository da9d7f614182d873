"""Scenes of the cluster drill: dead nodes and ranks, starts in vain, a port that is taken."""

import socket
import time
from dataclasses import replace

from cluster_run import BEFORE, MOST_LOST, TWO_NODES, WAIT_SECONDS, ClusterGround, PretrainJob
from drill_looks import expect, last_step
from drill_run import END_SECONDS, Seen

from launch.preemption import EXIT_CRASH_LOOP
from launch.rendezvous import slurm_port


def dead_nodes(ground: ClusterGround) -> Seen:
    """A node of a running job dies: first the second one, then the one with rank 0."""
    job = PretrainJob(ground, "nodes")
    noticed = []
    for times, which in enumerate((-1, 0), start=1):
        job.until_steps(last_step(job.run) + BEFORE)
        node = _nodes(ground, job)[which]
        ground.cluster.kill_node(node)
        noticed.append(job.left_the_nodes())
        job.until_started_again(times)
        expect(node not in _nodes(ground, job), f"it is started on {node} again, which is dead")
        ground.cluster.start_node(node)
    job.ends()
    ground.cluster.wait_for(ground.cluster.all_idle, "three idle nodes", WAIT_SECONDS)
    lost = job.is_as_undisturbed(starts=3, most_lost=MOST_LOST)
    codes = [start.code for start in job.starts()]
    expect(codes == [None, None, 0], f"the starts ended with {codes}")
    return Seen(
        times=2,
        seen="queued again on the other nodes, same",
        steps_lost=lost,
        seconds={"until Slurm has noticed": noticed},
    )


def dead_ranks(ground: ClusterGround) -> Seen:
    """``kill -9`` of one rank, then of the other; the run is submitted again each time."""
    job = PretrainJob(ground, "ranks")
    seconds = []
    for rank in (1, 0):
        job.until_steps(last_step(job.run) + BEFORE)
        seconds.append(kill_and_submit_again(job, rank))
    job.ends()
    return Seen(
        times=2,
        seen="the job fails, submitted again same",
        steps_lost=job.is_as_undisturbed(starts=3, most_lost=MOST_LOST),
        seconds={"to the end of the step": seconds},
    )


def kill_and_submit_again(job: PretrainJob, rank: int) -> float:
    """``kill -9`` of one rank, after which the step must end; the seconds that it took."""
    job.kill_rank(rank)
    seconds = job.ends("FAILED")
    expect(seconds < END_SECONDS, f"the step ended only {seconds:.0f} s later")
    job.submit()
    return seconds


def starts_in_vain(ground: ClusterGround) -> Seen:
    """A job that dies before its first step, and is queued again by an operator each time."""
    job = PretrainJob(ground, "vain")
    for times in (1, 2, 3):
        job.until(lambda times=times: len(job.starts()) == times, f"start {times}")
        job.kill_rank(1)
        job.ends("FAILED")
        ground.cluster.run("scontrol", "requeue", job.job_id)
        job.until_started_again(times)
    job.ends("FAILED")
    expect((code := job.exit_code()) == EXIT_CRASH_LOOP, f"its exit code is {code}")
    expect(last_step(job.run) == 0, "a step was done, so that the starts were not in vain")
    told = [line for line in job.refusals() if "came no further than step 0" in line]
    expect(len(told) == 1, f"it was said {len(told)} times")
    expect(f"the logs of job {job.job_id}" in told[0], f"the logs are not named: {told[0]}")
    return Seen(times=3, seen=f"the fourth start: exit {code}, one line", steps_lost=[])


def taken_port(ground: ClusterGround) -> Seen:
    """Another program listens where the ranks of a job would meet."""
    gate = ground.ground.folder / "gate"
    wait = f"until [ -e {gate} ]; do sleep 0.2; done"
    job = PretrainJob(ground, "port", replace(TWO_NODES, setup=(wait,)))
    port = slurm_port({"SLURM_JOB_ID": job.job_id})
    with socket.create_server(("", port)):
        gate.touch()
        job.until_steps(1)
        job.ends()
        job.is_as_undisturbed(starts=1)
        given = replace(TWO_NODES, setup=(f"export MASTER_PORT={port}",))
        fixed = PretrainJob(ground, "port-by-hand", given)
        began = time.monotonic()
        fixed.ends("FAILED")
        seconds = time.monotonic() - began
    told = [line for line in fixed.refusals() if f"cannot listen on port {port}" in line]
    expect(len(told) == 1, f"it was said {len(told)} times: {fixed.said()[-400:]}")
    expect(not fixed.starts(), "it was started all the same")
    return Seen(
        times=2,
        seen="another one is found, same; given by hand: one line",
        steps_lost=[],
        seconds={"to the end where given by hand": [seconds]},
    )


def _nodes(ground: ClusterGround, job: PretrainJob) -> list[str]:
    """Where a job runs, rank 0 first."""
    shown = ground.cluster.shown(job.job_id)["NodeList"]
    return ground.cluster.run("scontrol", "show", "hostnames", shown).split()
