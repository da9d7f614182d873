"""On a real Slurm of three nodes; see conftest.py."""

import re
import sys
from pathlib import Path

import pytest

from launch.cluster import ClusterConfig, SubmissionError, submit_command
from launch.rendezvous import find_rendezvous
from launch.slurm_queue import jobs_named

pytestmark = pytest.mark.slurm

SCRIPTS = Path(__file__).parents[2] / "slurm"

SUM_OF_RANKS = """
import torch
import torch.distributed as dist
from launch.rendezvous import rendezvous

place = rendezvous()
dist.init_process_group("gloo")
total = torch.tensor([float(place.rank + 1)])
dist.all_reduce(total)
print(f"rank {place.rank} of {place.world_size} at {place.master_addr}: sum {total.item()}")
dist.destroy_process_group()
"""

SUBMIT_FROM_INSIDE = """
import os, pathlib, sys
from launch.cluster import ClusterConfig, submit_command

if os.environ["SLURM_PROCID"] == "0":
    command = ["printenv", "SLURM_NTASKS"]
    print(submit_command(command, "child", pathlib.Path(sys.argv[1]), ClusterConfig()).job_id)
"""


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    return tmp_path / "run" / "logs"


def test_ranks_on_two_nodes_meet_and_add_up(slurm_cluster, logs):
    cluster = ClusterConfig(nodes=2, ranks_per_node=1, walltime_minutes=5)
    job = submit_command([sys.executable, "-c", SUM_OF_RANKS], "sum", logs, cluster)
    state = slurm_cluster.wait_for_job(job.job_id)
    texts = [path.read_text() for path in (*job.stdout, *job.stderr)]
    assert state == "COMPLETED", texts
    assert [re.findall(r"rank \d of 2 at \S+ sum \S+", text) for text in texts[:2]] == [
        ["rank 0 of 2 at 127.0.0.1: sum 3.0"],
        ["rank 1 of 2 at 127.0.0.1: sum 3.0"],
    ]


def test_every_rank_has_its_log_under_the_run(slurm_cluster, logs):
    cluster = ClusterConfig(nodes=2, ranks_per_node=2, walltime_minutes=5)
    job = submit_command(["printenv", "SLURM_PROCID", "SLURMD_NODENAME"], "names", logs, cluster)
    assert slurm_cluster.wait_for_job(job.job_id) == "COMPLETED"
    said = [path.read_text().split() for path in job.stdout]
    assert said == [["0", "n1"], ["1", "n1"], ["2", "n2"], ["3", "n2"]]
    assert all(path.parent == logs for path in (*job.stdout, *job.stderr, job.script))


def test_a_failed_rank_ends_the_job_at_once(slurm_cluster, logs):
    cluster = ClusterConfig(nodes=2, ranks_per_node=1, walltime_minutes=5)
    script = 'if [ "$SLURM_PROCID" = 1 ]; then exit 3; fi; sleep 300'
    job = submit_command(["bash", "-c", script], "dead-rank", logs, cluster)
    assert slurm_cluster.wait_for_job(job.job_id, seconds=30) == "FAILED"


def test_a_job_that_saved_and_stopped_is_queued_again(slurm_cluster, logs):
    job = submit_command(["bash", "-c", "exit 75"], "again", logs, ClusterConfig())
    try:
        slurm_cluster.wait_for(lambda: "Restarts=1" in shown(slurm_cluster, job), "requeued job")
        assert jobs_named("again") == [job.job_id]
    finally:
        slurm_cluster.run("scancel", job.job_id)


def test_a_job_can_submit_a_job(slurm_cluster, logs):
    command = [sys.executable, "-c", SUBMIT_FROM_INSIDE, str(logs)]
    job = submit_command(command, "parent", logs, ClusterConfig(nodes=2))
    assert slurm_cluster.wait_for_job(job.job_id) == "COMPLETED", job.stderr[0].read_text()
    child = job.stdout[0].read_text().strip()
    assert slurm_cluster.wait_for_job(child) == "COMPLETED"
    assert (logs / f"{child}_0_log.out").read_text().strip() == "1"


def test_a_refused_job_says_what_sbatch_said(slurm_cluster, logs):
    with pytest.raises(SubmissionError, match="Invalid partition"):
        submit_command(["true"], "refused", logs, ClusterConfig(partition="nowhere"))


def test_a_fake_node_name_falls_back_to_its_address(slurm_cluster):
    environ = {
        "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[2-3]",
        "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0",
    }  # fmt: skip
    assert find_rendezvous(environ).master_addr == "127.0.0.1"


@pytest.mark.parametrize(
    ("script", "options", "command"),
    [
        ("pretrain", ["RUN"], "-u -m launch.worker RUN"),
        ("probe", ["CHECKPOINT", "topics"], "-u -m launch probe CHECKPOINT topics"),
    ],
)
def test_the_scripts_run_the_same_commands(slurm_cluster, tmp_path, script, options, command):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$@" > "$0.$SLURM_PROCID.said"\n')
    python.chmod(0o755)
    answer = slurm_cluster.run(
        "env", f"TRIPTYCH_PYTHON={python}", "sbatch", "--parsable", f"--output={tmp_path}/log",
        str(SCRIPTS / f"{script}.sbatch"), *options,
    )  # fmt: skip
    assert slurm_cluster.wait_for_job(answer.strip()) == "COMPLETED"
    said = [path.read_text().strip() for path in tmp_path.glob("*.said")]
    assert said == [command] * (2 if script == "pretrain" else 1)


def shown(cluster, job) -> str:
    return cluster.run("scontrol", "--oneliner", "show", "job", job.job_id)
