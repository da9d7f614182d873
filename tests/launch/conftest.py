"""The Slurm cluster of the tests; see benchmarks/slurm_cluster.py.

Where Slurm is missing its tests are skipped, but they fail where CI is set: a green run has run
them.
"""

import os

import pytest
from slurm_cluster import missing_programs, running_cluster


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
