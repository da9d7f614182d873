"""What a plan finds on a real Slurm of three nodes, each of which sbatch would have taken."""

from dataclasses import replace

import pytest

from launch.__main__ import main
from launch.cluster import ClusterConfig
from launch.plan.chapter import Chapter
from launch.plan.slurm import slurm_chapter
from launch.run_config import save_run_config
from tiny import tiny_run

pytestmark = pytest.mark.slurm


@pytest.fixture
def job(slurm_cluster, tmp_path):
    def chapter(**changes: object) -> Chapter:
        run = tiny_run(tmp_path / "run", tmp_path / "shards")
        slurm = replace(ClusterConfig(nodes=2, ranks_per_node=2), **changes)
        return slurm_chapter(replace(run, cluster="slurm", slurm=slurm))

    return chapter


@pytest.fixture
def limited(slurm_cluster):
    """The partition with a time limit of an hour, and without a node."""
    slurm_cluster.run("scontrol", "update", "PartitionName=main", "MaxTime=60", "MaxNodes=3")
    yield
    slurm_cluster.run(
        "scontrol", "update", "PartitionName=main", "MaxTime=INFINITE", "MaxNodes=UNLIMITED"
    )


def test_a_job_that_fits_has_no_finding(job):
    chapter = job()
    assert chapter.findings == []
    text = " ".join(" ".join(chapter.lines).split())
    assert "main, UP, time limit none, 3 of 3 nodes in service" in text
    assert "3 with 4 CPUs, 0 GPUs, 4 GiB" in text


def test_a_whole_plan_of_a_good_run_exits_with_0(slurm_cluster, tmp_path, sample_shards, capsys):
    run = tiny_run(tmp_path / "run", sample_shards)
    save_run_config(replace(run, run=tmp_path / "stored", cluster="slurm"))
    stored = str(tmp_path / "stored" / "config.json")
    with pytest.raises(SystemExit) as stopped:
        main(["plan", "--config", stored, "--run", str(tmp_path / "run")])
    text = capsys.readouterr().out
    assert stopped.value.code == 0, text
    assert "1 node x 1 ranks, no GPU, 1 cores a rank" in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"walltime_minutes": 61}, "slurm.walltime_minutes 61 is more than the 60 minutes of"),
        ({"cpus_per_task": 3}, "6 CPUs (ranks_per_node 2 x cpus_per_task 3) on each of 2 nodes"),
        ({"memory_gb": 8}, "8 GiB of memory on each of 2 nodes: 0 of 3 nodes"),
        ({"gpus_per_node": 2}, "2 GPUs on each of 2 nodes: 0 of 3 nodes of partition main have"),
        ({"partition": "gpu"}, "slurm.partition: no partition is named 'gpu'; there are: main"),
        ({"constraint": "h100"}, "the feature h100 (slurm.constraint) on each of 2 nodes"),
    ],
)
def test_what_can_never_start_is_found_before_it_is_submitted(job, limited, changes, finding):
    (found,) = job(**changes).findings
    assert finding in found


def test_more_nodes_than_there_are_are_found(job, limited):
    most, there = job(nodes=4).findings
    assert "slurm.nodes 4 is more than the 3 nodes a job that partition main allows" in most
    assert "slurm.nodes 4: partition main has 3" in there


def test_a_partition_that_is_closed_is_found(job, slurm_cluster):
    slurm_cluster.run("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        (found,) = job().findings
    finally:
        slurm_cluster.run("scontrol", "update", "PartitionName=main", "State=UP")
    assert "partition main is DOWN" in found
