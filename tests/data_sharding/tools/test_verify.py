import os
import pickle

import pytest
from webdataset import TarWriter

from data_sharding.foreign.index_set import IndexConfig, index_tars
from data_sharding.index import read_index
from data_sharding.manifest import ShardSet
from data_sharding.tools.verify import ShardCheck, check_shard, verify_set
from tiny_shards import served, write_set


def damages(location, depth="full"):
    return [str(damage) for damage in verify_set(ShardSet.open(location), depth, workers=1)]


def flip(path, at):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def own(tmp_path):
    write_set(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture
def foreign(tmp_path):
    (tmp_path / "foreign").mkdir()
    for shard in range(2):
        with TarWriter(str(tmp_path / "foreign" / f"x-{shard}.tar")) as writer:
            for number in range(4):
                writer.write({"__key__": f"{number}", "txt": f"t{number}", "cls": 1})
    index_tars([str(tmp_path / "foreign")], IndexConfig(workers=1))
    return tmp_path / "foreign"


def test_whole_sets_have_nothing_to_tell(own, foreign):
    assert damages(own) == damages(foreign) == []
    assert damages(own, "quick") == damages(foreign, "quick") == []


def test_a_broken_member_is_named_with_its_bytes(own):
    part = read_index(own / "shard-000001.idx").parts_of(3, ("jpg",))[0]
    flip(own / "shard-000001.tar", part.start + 17)
    last = part.start + part.length - 1
    assert damages(own) == [
        f"shard-000001.tar: bytes {part.start}-{last} (000001-000003.jpg): CRC32 differs"
    ]
    assert damages(own, "quick") == []  # no tar is read


def test_only_the_first_broken_range_of_a_shard_is_named_and_every_broken_shard(own):
    for shard, rows in ((0, (4, 2)), (2, (1,))):
        index = read_index(own / f"shard-{shard:06d}.idx")
        for row in rows:
            flip(own / f"shard-{shard:06d}.tar", index.parts_of(row, ("txt",))[0].start)
    first, second = damages(own)
    assert "(000000-000002.txt)" in first
    assert "(000002-000001.txt)" in second


def test_broken_headers_padding_and_ends_are_named_in_our_own_shards(own):
    tar = own / "shard-000000.tar"
    part = read_index(own / "shard-000000.idx").parts_of(1, ("jpg",))[0]
    whole = tar.read_bytes()
    for at, expected in (
        (part.start - 400, "(header of 000000-000001.jpg): differs"),
        (part.start - 520, "(header of 000000-000001.jpg): differs"),
        (len(whole) - 3, "(end of the tar): not the zeros of its end"),
    ):
        flip(tar, at)
        (damage,) = damages(own)
        assert damage.startswith("shard-000000.tar: bytes ")
        assert damage.endswith(expected)
        tar.write_bytes(whole)


# Fault 1: truncated tar.
def test_a_cut_off_shard_tells_the_bytes_and_samples_that_are_lost(own):
    tar = own / "shard-000000.tar"
    index = read_index(own / "shard-000000.idx")
    os.truncate(tar, int(index.sample_offsets[5]) + 10)
    (damage,) = damages(own, "quick")
    assert f"bytes {index.sample_offsets[5] + 10}-{index.tar_bytes - 1} are missing" in damage
    assert "2 of 7 samples are cut off" in damage


def test_missing_and_unlisted_files_are_named(own):
    (own / "shard-000000.tar").unlink()
    (own / "shard-000001.idx").unlink()
    (own / "shard-000009.tar").write_bytes(b"x")
    (own / "shard-000002.tar.idx").write_bytes(b"another reader's")
    (own / "rejects.jsonl").write_bytes(b"")
    missing, no_index, unlisted = damages(own)
    assert missing == "shard-000000.tar: missing"
    assert no_index.startswith("shard-000001.idx: missing; make it")
    assert unlisted.startswith("shard-000009.tar: not in manifest.json")


def test_an_altered_index_and_one_of_another_tar_are_named(own):
    flip(own / "shard-000000.idx", 80)
    (own / "shard-000001.idx").write_bytes((own / "shard-000002.idx").read_bytes())
    altered, other = damages(own, "quick")
    assert "shard-000000.idx: its sha256 does not match" in altered.replace(
        "shard-000000.idx: shard-000000.idx", "shard-000000.idx"
    )
    assert other.startswith("shard-000001.idx: belongs to another tar")


def test_bytes_that_no_index_covers_are_checked_in_foreign_tars(foreign):
    tar = foreign / "x-0.tar"
    index = read_index(foreign / "x-0.idx")
    flip(tar, index.parts_of(2, ("txt",))[0].start - 400)  # a header
    (damage,) = damages(foreign)
    assert "x-0.tar: sha256 differs" in damage
    assert "no valid header at byte" in damage
    flip(tar, index.parts_of(2, ("txt",))[0].start - 400)
    flip(tar, index.parts_of(2, ("txt",))[0].start + 30)  # padding
    (damage,) = damages(foreign)
    assert "all 4 samples are whole" in damage


def test_remote_sets_are_checked_as_local_ones(own):
    part = read_index(own / "shard-000002.idx").parts_of(0, ("flac",))[0]
    flip(own / "shard-000002.tar", part.start)
    with served(own) as server:
        (damage,) = damages(server.url)
    assert "shard-000002.tar: bytes" in damage
    assert "(000002-000000.flac): CRC32 differs" in damage


def test_a_check_can_travel_to_another_process(own):
    shards = ShardSet.open(own)
    check = ShardCheck(location=str(own), entry=shards.shards[0], depth="full", own=True)
    flip(own / "shard-000000.tar", 4000)
    damage = check_shard(pickle.loads(pickle.dumps(check)))
    assert pickle.loads(pickle.dumps(damage)) == damage
