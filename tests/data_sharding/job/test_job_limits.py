"""What stops a sharding job: a full disk, and too many rejected rows."""

import json
import os
import resource
import signal

import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.folder import UNFINISHED
from tiny_corpus import write_corpus

SMALL = ShardingConfig(samples_per_shard=2, rows_per_task=3, max_reject_share=0.5)
SMALL_BUT_LENIENT = ShardingConfig(samples_per_shard=2, rows_per_task=3, max_reject_share=0.3)


def test_a_full_disk_leaves_only_whole_shards_and_says_what_is_needed(tmp_path):
    write_corpus(tmp_path / "corpus", 6)
    whole = shard_corpus(tmp_path / "corpus", tmp_path / "whole", SMALL)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "whole").glob("*.tar"))
    assert sizes[0] < sizes[-1]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes[-1] - 1, limits[1]))
    try:
        with pytest.raises(OSError, match=r"this shard needs about \d+ bytes, \d+ bytes are free"):
            shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    for tar in (tmp_path / "out").glob("*.tar"):
        assert tar.read_bytes() == (tmp_path / "whole" / tar.name).read_bytes()
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL).digest == whole.digest


def test_a_disk_that_is_too_small_is_refused_before_writing(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus", 4)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"need about \d+ bytes more, 1000 bytes are free"):
        shard_corpus(tmp_path / "corpus", tmp_path / "out", SMALL)
    assert not list((tmp_path / "out").glob("*.tar"))


def test_too_many_rejected_rows_fail_the_job_and_a_higher_budget_goes_on(tmp_path):
    manifest = write_corpus(tmp_path / "corpus", 6)
    with manifest.open("a") as file:
        file.write("broken row\n" * 2)
    strict = ShardingConfig(samples_per_shard=2, rows_per_task=3, max_reject_share=0.2)
    with pytest.raises(ValueError, match=r"2 of 8 rows rejected \(bad-row 2\).* row 7: ") as error:
        shard_corpus(manifest, tmp_path / "out", strict)
    listed = tmp_path / "out" / UNFINISHED / "rejects.jsonl"
    assert str(listed) in str(error.value)
    assert [json.loads(line)["row"] for line in listed.read_text().splitlines()] == [7, 8]
    scanned = (tmp_path / "out" / UNFINISHED / "scan" / "scan-000000.npy").stat().st_ino
    kept = os.open(tmp_path / "out" / UNFINISHED / "scan" / "scan-000000.npy", os.O_RDONLY)
    report = shard_corpus(manifest, tmp_path / "out", SMALL_BUT_LENIENT)
    assert os.fstat(kept).st_ino == scanned
    os.close(kept)
    assert report.rejects == {"bad-row": 2}
    whole = shard_corpus(manifest, tmp_path / "whole", SMALL_BUT_LENIENT)
    assert report.digest == whole.digest


def test_a_budget_that_cannot_be_met_any_more_ends_the_job_early(tmp_path):
    manifest = write_corpus(tmp_path / "corpus", 8)
    manifest.write_text("broken\n" * 4 + manifest.read_text())
    with pytest.raises(ValueError, match="4 of 12 rows rejected"):
        shard_corpus(manifest, tmp_path / "out", ShardingConfig(rows_per_task=4))
    scan = tmp_path / "out" / UNFINISHED / "scan"
    assert [path.name for path in scan.glob("*.json")] == ["scan-000000.json"]


def test_a_folder_corpus_does_not_take_the_shards_made_inside_it(tmp_path):
    write_corpus(tmp_path / "corpus", 2)
    (tmp_path / "corpus" / "manifest.jsonl").unlink()
    with pytest.raises(ValueError, match="lies inside the corpus"):
        shard_corpus(tmp_path / "corpus", tmp_path / "corpus" / "shards", ShardingConfig())
    assert not (tmp_path / "corpus" / "shards").exists()


def test_a_wanted_split_that_no_sample_came_to_is_said(tmp_path):
    manifest = write_corpus(tmp_path / "corpus", 4)
    config = ShardingConfig(splits={"train": 0.999_999, "rare": 0.000_001})
    report = shard_corpus(manifest, tmp_path / "out", config)
    assert "no sample came to the split rare" in report.summary()
