"""A two-node pretraining job on a real Slurm; see conftest.py. Its probes: test_slurm_probes.py."""

import pytest

from launch.cluster import ClusterConfig
from launch.jobs import submit_pretrain
from launch.local import run_local
from launch.run_config import RunConfig, prepare_run
from tiny import losses, tiny_pretrain

pytestmark = pytest.mark.slurm


def test_a_two_node_job_pretrains_as_two_local_ranks_do(slurm_cluster, tmp_path, sample_shards):
    pretrain = tiny_pretrain(sample_shards, total_steps=6, checkpoint_every_steps=3)
    config = RunConfig(
        run=tmp_path / "run",
        pretrain=pretrain,
        cluster="slurm",
        slurm=ClusterConfig(nodes=2, ranks_per_node=1, walltime_minutes=10),
    )
    prepare_run(config, resume=False)
    job = submit_pretrain(config.run, config.slurm)
    state = slurm_cluster.wait_for_job(job.job_id, seconds=180)
    assert state == "COMPLETED", [path.read_text() for path in job.stderr]

    local = RunConfig(run=tmp_path / "local", pretrain=pretrain, ranks=2)
    prepare_run(local, resume=False)
    assert run_local(local.run, 2) == 0
    assert losses(config.run) == losses(local.run)
