"""The Slurm cluster of the tests, see benchmarks/slurm_cluster.py; the ground of the drills.

Where Slurm is missing its tests are skipped, but they fail where CI is set: a green run has run
them.
"""

import os

import pytest
from drill_run import Ground
from slurm_cluster import missing_programs, running_cluster

from launch.guard_config import GuardConfig
from launch.run_config import prepare_run
from warm_ranks import run_warm


def refuse(reason: str) -> None:
    """Skip on a workstation; fail in CI, where a skip would hide that nothing was tested."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}; CI must run the Slurm tests")
    pytest.skip(reason)  # a workstation without Slurm; in CI the lines above have failed


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory):
    """A cluster of three nodes for the whole test session."""
    if missing := missing_programs():
        refuse(f"Slurm is not installed ({', '.join(missing)}): apt-get install slurm-wlm munge")
    with running_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def drill_ground(tmp_path, sample_shards):
    """Makes the ground of a drill; the run that nothing happens to is by warm ranks."""

    def make(kills: int) -> Ground:
        (tmp_path / "shards").symlink_to(sample_shards)
        ground = Ground(folder=tmp_path, shards=tmp_path / "shards", seed=0, kills=kills)
        prepare_run(ground.config(ground.undisturbed, GuardConfig()), resume=False)
        assert run_warm(ground.undisturbed, 2) == 0
        return ground

    return make
