"""A run's jobs seen and stopped from outside, on a real Slurm; see conftest.py."""

import json
from pathlib import Path

import pytest

from launch.cluster import ClusterConfig, submit_command
from launch.job_commands import cancel, log_files
from launch.job_record import JobRecord, record_job
from launch.run_status import read_status

pytestmark = pytest.mark.slurm

SAVES_WHEN_ASKED = "trap 'echo saved; exit 75' USR2; echo here; while :; do sleep 0.1; done"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a|run"
    folder.mkdir()
    pretrain = {"total_steps": 100, "batch": {"global_samples": 64}}
    (folder / "config.json").write_text(json.dumps({"pretrain": pretrain}))
    return folder


def submit(run: Path, script: str, cluster: ClusterConfig) -> str:
    job = submit_command(["bash", "-c", script], f"pretrain-{run.name}", run / "logs", cluster)
    record_job(run, JobRecord(kind="pretrain", job_id=job.job_id, name=job.name))
    return job.job_id


def test_a_cancelled_run_saves_and_is_not_queued_again(slurm_cluster, run):
    job_id = submit(run, SAVES_WHEN_ASKED, ClusterConfig())
    output = run / "logs" / f"{job_id}_0_log.out"
    slurm_cluster.wait_for(lambda: output.exists() and output.read_text(), "the rank")
    (job,) = read_status(run).queued_of("pretrain")
    assert (job.job_id, job.state, job.nodes) == (job_id, "RUNNING", "n1")

    assert cancel(run, now=False) == [f"job {job_id}: saves and stops at its next step"]
    assert slurm_cluster.wait_for_job(job_id) == "FAILED"  # with 75, and stays so
    assert log_files(run, job_id, 0)[0].read_text().split() == ["here", "saved"]
    assert read_status(run).queued == []


def test_a_run_that_waits_is_taken_out_of_the_queue(slurm_cluster, run):
    job_id = submit(run, "sleep 60", ClusterConfig(setup=("sleep 60",), nodes=3))
    slurm_cluster.wait_for(lambda: read_status(run).queued, "the job")
    slurm_cluster.run("scontrol", "hold", job_id)
    other = submit(run, "sleep 60", ClusterConfig(nodes=3))
    slurm_cluster.run("scontrol", "hold", other)
    assert read_status(run).state.startswith(("queued: job", "starting"))
    assert len(cancel(run, now=True)) == 2
    assert slurm_cluster.wait_for_job(job_id) == "CANCELLED"
    assert slurm_cluster.wait_for_job(other) == "CANCELLED"
    assert cancel(run, now=False) == []
