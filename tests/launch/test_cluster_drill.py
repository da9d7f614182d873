"""Scenes of the cluster drill that take a minute or two; `make cluster-drill` plays them all."""

import os
import shlex

import cluster_drill
import pytest
from cluster_run import ClusterGround
from drill_table import play
from slurm_cluster import running_cluster

pytestmark = pytest.mark.slurm

STEPS = 48


@pytest.fixture(scope="module")
def ground(tmp_path_factory, slurm_cluster) -> ClusterGround:
    folder = tmp_path_factory.mktemp("drill")
    return ClusterGround(cluster_drill.prepare_ground(folder, STEPS), slurm_cluster)


@pytest.mark.parametrize("name", cluster_drill.SHORT)
def test_a_scene_on_a_real_cluster_ends_as_it_should(ground, name):
    scene = cluster_drill.SCENES[name]
    try:
        row = play(scene, ground)
    finally:
        ground.cluster.run("scancel", "--me")  # no failure of one is to be one of others
    print(row.show())
    assert row.as_expected, f"{scene.fault}: expected {scene.expected}, seen: {row.seen}"


def test_a_stopped_cluster_leaves_no_process(slurm_cluster, tmp_path, tmp_path_factory):
    stubborn = f"trap '' TERM; echo $$ > {tmp_path}/pid; while true; do sleep 0.2; done"
    with running_cluster(tmp_path_factory.mktemp("other")) as cluster:
        cluster.run("sbatch", "--output=/dev/null", f"--wrap=srun bash -c {shlex.quote(stubborn)}")
        cluster.wait_for(lambda: (tmp_path / "pid").exists(), "a running job", seconds=90)
        pid = int((tmp_path / "pid").read_text())
        assert pid in cluster.leftovers()
    assert cluster.leftovers() == []
    assert os.environ["SLURM_CONF"] == str(slurm_cluster.folder / "slurm.conf")
