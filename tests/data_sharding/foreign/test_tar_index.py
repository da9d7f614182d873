import io
import os
import shutil
import tarfile
import zlib

import pytest
from webdataset import TarWriter

from data_sharding.foreign.index_set import IndexConfig, index_tars
from data_sharding.foreign.index_tar import index_tar
from data_sharding.index import read_index
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from data_sharding.schema import ShardError
from tiny_shards import write_set


def members(number):
    return {"txt": f"caption {number}", "jpg": bytes([number]) * (900 + number), "cls": number}


def write_tar(path, count=4, first=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path)) as writer:
        for number in range(first, first + count):
            writer.write({"__key__": f"{number:06d}", **members(number)})
    return path


def write_members(path, *pairs):
    with tarfile.open(path, "w") as tar:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def read_all(folder, split=None):
    shards = ShardSet.open(folder, split)
    reader = ShardReader(shards)
    samples = [reader.read(number) for number in range(shards.num_samples)]
    reader.close()
    return samples


def test_foreign_tars_stream_as_they_are_after_one_command(tmp_path):
    tars = [write_tar(tmp_path / f"laion-{n:05d}.tar", first=4 * n) for n in range(3)]
    before = [tar.read_bytes() for tar in tars]
    report = index_tars([str(tmp_path / "laion-{00000..00002}.tar")], IndexConfig(workers=1))
    assert [tar.read_bytes() for tar in tars] == before
    samples = read_all(tmp_path)
    assert [bytes(sample.members["txt"]).decode() for sample in samples] == [
        f"caption {number}" for number in range(12)
    ]
    assert bytes(samples[5].members["jpg"]) == members(5)["jpg"]
    assert samples[5].key == "laion-00001-000001"
    assert "12 samples (12 with text, 12 with image) in 3 tars" in report.summary()
    assert "members passed over: .cls 12" in report.summary()


def test_every_member_has_its_crc32_and_every_tar_its_sha256(tmp_path):
    tar = write_tar(tmp_path / "x.tar", count=2)
    index_tar(tar)
    index, raw = read_index(tmp_path / "x.idx"), tar.read_bytes()
    for row in range(2):
        for part in index.parts_of(row, ("txt", "jpg")):
            content = raw[part.start : part.start + part.length]
            assert part.crc32 == zlib.crc32(content)
            assert content in (members(row)["txt"].encode(), members(row)["jpg"])
    assert index.present() == {"text": 2, "image": 2}
    assert index.combinations() == {"text + image": 2}


def test_the_digest_depends_on_the_tars_alone(tmp_path):
    for number in range(3):
        write_tar(tmp_path / "one" / f"x-{number}.tar")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    index_tars([str(tmp_path / "two" / "x-1.tar")], IndexConfig(workers=1))
    digests = {
        index_tars([str(tmp_path / name)], IndexConfig(workers=1)).shard_set.digest
        for name in ("one", "two")
    }
    assert len(digests) == 1


def test_finished_indexes_are_passed_over_and_force_reads_again(tmp_path):
    tar = write_tar(tmp_path / "x.tar")
    assert index_tar(tar).fresh
    assert not index_tar(tar).fresh
    assert index_tar(tar, force=True).fresh


def test_a_tar_that_changed_is_read_again(tmp_path):
    tar = write_tar(tmp_path / "x.tar", count=2)
    index_tar(tar)
    write_tar(tar, count=3)
    os.utime(tar, ns=(0, 0))  # even where the copy keeps an old time
    report = index_tar(tar)
    assert report.fresh
    assert report.entry.samples == 3


def test_a_run_adds_its_split_to_the_folder_and_keeps_the_others(tmp_path):
    write_tar(tmp_path / "a.tar", count=3)
    write_tar(tmp_path / "b.tar", count=2)
    write_tar(tmp_path / "c.tar", count=1)
    index_tars([str(tmp_path / "{a,b}.tar")], IndexConfig(workers=1, licence="cc0-1.0"))
    index_tars([str(tmp_path / "c.tar")], IndexConfig(workers=1, split="val", licence="mit"))
    both = ShardSet.open(tmp_path)
    assert both.splits == ("train", "val")
    assert both.licence == "cc0-1.0 AND mit"
    moved = index_tars([str(tmp_path / "b.tar")], IndexConfig(workers=1, split="val"))
    assert [(shard.file, shard.split) for shard in moved.shard_set.shards] == [
        ("a.tar", "train"),
        ("c.tar", "val"),
        ("b.tar", "val"),
    ]
    assert len(read_all(tmp_path, "val")) == 3


def test_samples_with_faults_are_left_out_and_counted_by_reason(tmp_path):
    write_members(
        tmp_path / "x.tar",
        ("a.txt", b"whole"),
        ("a.jpg", b"whole"),
        ("b.txt", b"part"),
        ("c.pkl", b"\x80\x04."),
        ("b.jpg", b"apart"),
        ("d.txt", b""),
        ("e.txt", b"whole too"),
    )
    report = index_tars([str(tmp_path)], IndexConfig(workers=1))
    assert [bytes(sample.members["txt"]) for sample in read_all(tmp_path)] == [
        b"whole",
        b"whole too",
    ]
    assert report.shard_set.rejects == {"empty-sample": 2, "split-sample": 2}
    assert "empty-sample 2, split-sample 2" in report.summary()
    again = index_tars([str(tmp_path)], IndexConfig(workers=1))
    assert again.shard_set.digest == report.shard_set.digest


# Fault 1: truncated tar.
def test_a_cut_off_tar_is_refused_by_name_and_the_others_are_kept_for_the_next_run(tmp_path):
    write_tar(tmp_path / "good.tar")
    broken = write_tar(tmp_path / "short.tar")
    os.truncate(broken, broken.stat().st_size // 2)
    with pytest.raises(ShardError, match=r"1 of 2 tars are refused.*short\.tar: ends at byte"):
        index_tars([str(tmp_path)], IndexConfig(workers=1))
    assert not (tmp_path / "manifest.json").exists()
    assert (tmp_path / "good.idx").is_file()
    assert not (tmp_path / "short.idx").exists()


def test_the_whole_samples_of_a_cut_off_tar_can_be_kept(tmp_path):
    broken = write_tar(tmp_path / "short.tar", count=8)
    os.truncate(broken, broken.stat().st_size // 2)
    report = index_tars([str(tmp_path)], IndexConfig(workers=1, broken="keep"))
    samples = read_all(tmp_path)
    assert 2 <= len(samples) < 8
    assert all(set(sample.members) == {"txt", "jpg"} for sample in samples)
    assert "broken: " in report.summary()
    assert report.shard_set.rejects == {"broken-tar": 1}


# Faults 2 and 3: nothing in it, or garbage.
@pytest.mark.parametrize("content", [b"", b"\xa7" * 4096, bytes(10_240)])
def test_a_shard_that_yields_nothing_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ShardError, match=r"x\.tar"):
        index_tars([str(tmp_path)], IndexConfig(workers=1))


# Fault 17: commands in a list of shards.
@pytest.mark.parametrize(
    "word", ["pipe:cat x.tar", "pipe:touch {a,b}", "simplecache::s3://b/x.tar"]
)
def test_commands_and_chained_urls_in_a_list_of_shards_are_refused(tmp_path, monkeypatch, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="refused"):
        index_tars([word], IndexConfig())
    assert list(tmp_path.iterdir()) == []


def test_remote_tars_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="triptych shard"):
        index_tars(["https://example.org/x-{000..010}.tar"], IndexConfig())


def test_missing_tars_and_several_folders_are_refused(tmp_path):
    write_tar(tmp_path / "a" / "x.tar")
    write_tar(tmp_path / "b" / "x.tar")
    with pytest.raises(ValueError, match=r"y-1\.tar does not exist"):
        index_tars([str(tmp_path / "y-{1..3}.tar")], IndexConfig())
    with pytest.raises(ValueError, match="2 folders"):
        index_tars([str(tmp_path / "a"), str(tmp_path / "b")], IndexConfig())
    with pytest.raises(ValueError, match=r"holds no \.tar"):
        index_tars([str(tmp_path)], IndexConfig())


def test_a_set_that_was_sharded_here_is_not_indexed_anew(tmp_path):
    shards = write_set(tmp_path / "set")
    with pytest.raises(ValueError, match="has its indexes"):
        index_tars([str(tmp_path / "set")], IndexConfig(workers=1))
    assert ShardSet.open(tmp_path / "set").digest == shards.digest


def test_a_name_that_no_manifest_can_hold_is_refused(tmp_path):
    write_tar(tmp_path / "my tar.tar")
    with pytest.raises(ShardError, match="rename it"):
        index_tars([str(tmp_path)], IndexConfig(workers=1))
