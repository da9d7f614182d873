"""A two-node pretraining job and its probe jobs, on a real Slurm; see conftest.py."""

import pytest

from eval.tasks import load_task
from launch.cluster import ClusterConfig
from launch.jobs import submit_pretrain
from launch.local import run_local
from launch.probes.states import has_report
from launch.run_config import RunConfig, prepare_run
from pretrain.checkpoint import open_checkpoint
from tiny import losses, tiny_pretrain

pytestmark = pytest.mark.slurm


def test_a_two_node_job_pretrains_as_two_local_ranks_do_and_probes_each_checkpoint(
    slurm_cluster, tmp_path, sample_shards
):
    task = load_task("sample-topics", tasks_folder=tmp_path / "tasks")
    pretrain = tiny_pretrain(sample_shards, total_steps=6, checkpoint_every_steps=3)
    config = RunConfig(
        run=tmp_path / "run",
        pretrain=pretrain,
        cluster="slurm",
        slurm=ClusterConfig(nodes=2, ranks_per_node=1, walltime_minutes=10),
        probe_tasks=(str(task.folder),),
    )
    prepare_run(config, resume=False)
    job = submit_pretrain(config.run, config.slurm)
    state = slurm_cluster.wait_for_job(job.job_id, seconds=180)
    assert state == "COMPLETED", [path.read_text() for path in job.stderr]

    local = RunConfig(run=tmp_path / "local", pretrain=pretrain, ranks=2)
    prepare_run(local, resume=False)
    assert run_local(local.run, 2) == 0
    assert losses(config.run) == losses(local.run)

    checkpoints = sorted((config.run / "checkpoints").glob("step-????????"))
    assert [folder.name for folder in checkpoints] == ["step-00000003", "step-00000006"]
    for folder in checkpoints:
        checkpoint = open_checkpoint(folder)
        slurm_cluster.wait_for(
            lambda checkpoint=checkpoint: has_report(checkpoint, str(task.folder)),
            f"the probe of {folder.name}",
            seconds=180,
        )
