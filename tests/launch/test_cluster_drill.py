"""The cluster drill in its short form; `make cluster-drill` plays all its scenes."""

import os
import shlex

import pytest
from cluster_drill import SHORT
from cluster_run import ClusterGround
from drill_table import play
from slurm_cluster import running_cluster

pytestmark = pytest.mark.slurm

STEPS = 40


def test_a_two_node_run_survives_what_happens_to_it_with_the_losses_of_two_local_ranks(
    slurm_cluster, drill_ground
):
    ground = ClusterGround(drill_ground(kills=STEPS // 4), slurm_cluster)
    try:
        row = play(SHORT, ground)
    finally:
        slurm_cluster.run("scancel", "--me")  # its failure is not to be one of others
    print(row.show())
    assert row.as_expected, f"{SHORT.fault}: expected {SHORT.expected}, seen: {row.seen}"


def test_a_stopped_cluster_leaves_no_process(slurm_cluster, tmp_path, tmp_path_factory):
    stubborn = f"trap '' TERM; echo $$ > {tmp_path}/pid; while true; do sleep 0.2; done"
    with running_cluster(tmp_path_factory.mktemp("other")) as cluster:
        cluster.run("sbatch", "--output=/dev/null", f"--wrap=srun bash -c {shlex.quote(stubborn)}")
        cluster.wait_for(lambda: (tmp_path / "pid").exists(), "a running job", seconds=90)
        pid = int((tmp_path / "pid").read_text())
        assert pid in cluster.processes()
    assert cluster.processes() == []
    assert os.environ["SLURM_CONF"] == str(slurm_cluster.folder / "slurm.conf")
