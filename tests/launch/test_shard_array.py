"""Sharding as an array on a real Slurm of three nodes; see conftest.py."""

import sys
from pathlib import Path

import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.engines import LocalEngine
from data_sharding.job.folder import JobFolder
from launch.cluster import ClusterConfig, _ranges
from launch.shard_array import largest_array, slurm_engine
from launch.shard_command import shard_command
from tiny_corpus import write_corpus

SMALL = ShardingConfig(samples_per_shard=2, rows_per_task=2, splits={"a": 0.5, "b": 0.5})


def engine():
    cluster = ClusterConfig(walltime_minutes=5)
    return slurm_engine(cluster, poll_seconds=0.2, settle_seconds=1.0)


@pytest.mark.slurm
def test_a_slurm_array_gives_the_digest_of_one_process(slurm_cluster, tmp_path):
    write_corpus(tmp_path / "corpus", 7)
    here = shard_corpus(tmp_path / "corpus", tmp_path / "here", SMALL, LocalEngine(workers=1))
    there = shard_corpus(tmp_path / "corpus", tmp_path / "there", SMALL, engine())
    assert there.digest == here.digest
    assert not (tmp_path / "there" / "unfinished").exists()


@pytest.mark.slurm
def test_a_task_that_fails_on_slurm_is_named_with_its_reason_and_log(slurm_cluster, tmp_path):
    write_corpus(tmp_path / "corpus", 3)
    changing = _ChangesCorpus(engine(), tmp_path / "corpus")
    with pytest.raises(OSError, match=r"write task \d: .* changed while it was sharded.*\(log: "):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL, changing)


class _ChangesCorpus:
    """Alters the pictures between the two stages."""

    def __init__(self, inner, corpus: Path) -> None:
        self.inner, self.corpus = inner, corpus

    def run(self, out, stage, numbers, on_done) -> None:
        if stage == "write":
            for picture in self.corpus.glob("*.jpg"):
                picture.write_bytes((self.corpus / "1.png").read_bytes())
        self.inner.run(out, stage, numbers, on_done)


@pytest.mark.slurm
def test_the_script_does_the_tasks_that_the_driver_then_finds_done(slurm_cluster, tmp_path):
    write_corpus(tmp_path / "corpus", 5)
    whole = shard_corpus(tmp_path / "corpus", tmp_path / "whole", SMALL)
    with pytest.raises(RuntimeError, match="stopped"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL, _Stops())
    script = Path(__file__).parents[2] / "slurm" / "shard_array.sbatch"
    job_id = slurm_cluster.run(
        "env", f"TRIPTYCH_PYTHON={sys.executable}", "sbatch", "--parsable", "--array=0-1",
        f"--output={tmp_path}/log-%a", str(script), str(tmp_path / "out"), "scan",
    ).strip()  # fmt: skip
    states = [slurm_cluster.wait_for_job(f"{job_id}_{task}") for task in (0, 1)]
    assert states == ["COMPLETED"] * 2, [path.read_text() for path in tmp_path.glob("log-*")]
    assert JobFolder(tmp_path / "out").missing("scan", range(3)) == []
    assert shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL).digest == whole.digest


class _Stops:
    def run(self, out, stage, numbers, on_done) -> None:
        raise RuntimeError("stopped")


@pytest.mark.slurm
def test_the_largest_array_is_the_cluster_s(slurm_cluster):
    assert largest_array() == 1000


def test_numbers_are_written_as_slurm_writes_them():
    assert _ranges([7, 0, 1, 2, 9, 10]) == "0-2,7,9-10"


def test_the_command_line_shards_appends_and_refuses(tmp_path, capsys):
    write_corpus(tmp_path / "corpus", 4)
    (tmp_path / "more.jsonl").write_text('{"text": "more words"}\n')
    out = str(tmp_path / "out")
    sizes = ["--samples-per-shard", "3", "--workers", "1"]
    assert shard_command([str(tmp_path / "corpus"), out, *sizes]) == 0
    assert shard_command([str(tmp_path / "more.jsonl"), out, "--append", *sizes]) == 0
    assert "5 samples" in capsys.readouterr().out
    with pytest.raises(ValueError, match="workers must be at least 1"):
        shard_command([str(tmp_path / "corpus"), out, "--workers", "0"])
