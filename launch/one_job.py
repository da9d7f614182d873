"""One pretraining job a run: a second is refused before it is submitted.

Where two are submitted all the same, by scripts or at the same moment, the run's lock refuses the
second when it starts.
"""

from pathlib import Path

from launch.job_record import read_jobs
from launch.slurm_queue import queued_jobs


def refuse_second_job(run: Path) -> None:
    """Make sure that no pretraining job of a run is pending or running.

    Raises:
        ValueError: one is, or there is no Slurm on this machine.
        SubmissionError: Slurm does not answer.
    """
    for job in queued_jobs([job for job in read_jobs(run) if job.kind == "pretrain"]):
        where = f" on {job.nodes}" if job.nodes else ""
        raise ValueError(
            f"{run}: job {job.job_id} ({job.name}) pretrains it already: {job.state}{where}; wait "
            f"for its end, or `triptych cancel {run}` before you submit it again"
        )
