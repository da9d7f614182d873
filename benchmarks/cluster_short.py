"""The cluster drill in the short form that the tests play: three faults of one run, in turn."""

from cluster_losses import kill_and_submit_again
from cluster_refusals import submit_second_jobs
from cluster_run import BEFORE, MOST_LOST, ClusterGround, PretrainJob
from cluster_stops import goes_on_at, signal_job
from drill_looks import expect, last_step
from drill_run import Seen

from launch.preemption import EXIT_REQUEUE


def three_in_turn(ground: ClusterGround) -> Seen:
    """It is submitted twice more, then asked to stop by USR2, then its rank 0 is killed."""
    job = PretrainJob(ground, "in-turn")
    job.until_steps(BEFORE)
    submit_second_jobs(job)

    signal_job(ground, job)
    stopped = job.left_the_nodes()
    reached = last_step(job.run)
    job.until_started_again(1)

    job.until_steps(reached + BEFORE)
    killed = kill_and_submit_again(job, rank=0)
    job.ends()
    lost = job.is_as_undisturbed(starts=3, most_lost=MOST_LOST)
    expect((code := goes_on_at(job, reached)) == EXIT_REQUEUE, f"asked to stop: {code}")
    expect(lost[0] == 0, f"asked to stop it lost {lost[0]} steps")
    return Seen(
        times=4,
        seen="refused twice; saved, queued again; failed, submitted again; same",
        steps_lost=lost,
        seconds={"until the nodes are free": [stopped], "to the end of the step": [killed]},
    )
