"""Commands that are not waited for do what they were told, and their logs say so."""

import re
import time
from pathlib import Path

import pytest

from launch.job_record import read_jobs
from launch.run_config import prepare_run
from tiny import tiny_run
from warm_ranks import run_warm, start_warm


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sample_shards) -> Path:
    """A run of two steps with a checkpoint."""
    run = tmp_path_factory.mktemp("trained") / "run"
    prepare_run(tiny_run(run, sample_shards, total_steps=2), resume=False)
    assert run_warm(run, 1) == 0
    return run


@pytest.fixture
def publish(capfd):
    """Gives the command, and what it said."""

    def give(run: Path, where: str, out: Path) -> str:
        options = ["--licence", "cc-by-4.0", "--without-probes", "--cluster", where]
        assert start_warm(["publish", str(run), str(out), *options]).wait() == 0
        return capfd.readouterr().out

    return give


def said_at_last(log: Path) -> str:
    """What a log says, once it says something."""
    deadline = time.monotonic() + 180
    while not log.exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline, f"{log} stays empty"
        time.sleep(0.1)
    return log.read_text()


def test_a_command_in_the_background_tells_its_log_what_it_refuses(trained, publish, tmp_path):
    (tmp_path / "thesis.tex").touch()
    found = re.fullmatch(r"process \d+; log: (\S+)\n", publish(trained, "local", tmp_path))
    assert found is not None
    assert Path(found[1]).parent == trained / "logs"
    assert said_at_last(Path(found[1])).startswith(f"triptych: {tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slurm
def test_a_backbone_is_published_by_a_job(slurm_cluster, trained, publish, tmp_path):
    out = tmp_path / "backbone"
    said = publish(trained, "slurm", out)
    (job,) = read_jobs(trained)
    assert said.startswith(f"job {job.job_id}; log: {trained / 'logs'}")
    assert slurm_cluster.wait_for_job(job.job_id, seconds=180) == "COMPLETED"
    assert (out / "README.md").is_file()
