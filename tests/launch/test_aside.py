"""Commands that are not waited for do what they were told, and their logs say so."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.job_record import read_jobs
from launch.local import run_local
from launch.run_config import prepare_run
from tiny import tiny_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sample_shards) -> Path:
    """A run of two steps with a checkpoint."""
    run = tmp_path_factory.mktemp("trained") / "run"
    prepare_run(tiny_run(run, sample_shards, total_steps=2), resume=False)
    assert run_local(run, 1) == 0
    return run


def publish(run: Path, where: str, out: Path) -> str:
    command = [sys.executable, "-m", "launch", "publish", str(run), str(out)]
    command += ["--licence", "cc-by-4.0", "--without-probes", "--cluster", where]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def said_at_last(log: Path) -> str:
    """What a log says, once it says something."""
    deadline = time.monotonic() + 180
    while not log.exists() or not log.read_text().endswith("\n"):
        assert time.monotonic() < deadline, f"{log} stays empty"
        time.sleep(0.1)
    return log.read_text()


def test_a_command_in_the_background_tells_its_log_what_it_refuses(trained, tmp_path):
    (tmp_path / "thesis.tex").touch()
    found = re.fullmatch(r"process \d+; log: (\S+)\n", publish(trained, "local", tmp_path))
    assert found is not None
    assert Path(found[1]).parent == trained / "logs"
    assert said_at_last(Path(found[1])).startswith(f"triptych: {tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slurm
def test_a_backbone_is_published_by_a_job(slurm_cluster, trained, tmp_path):
    out = tmp_path / "backbone"
    said = publish(trained, "slurm", out)
    (job,) = read_jobs(trained)
    assert said.startswith(f"job {job.job_id}; log: {trained / 'logs'}")
    assert slurm_cluster.wait_for_job(job.job_id, seconds=180) == "COMPLETED"
    assert (out / "README.md").is_file()
