import shutil

import pytest

from data_sharding.index import read_index
from data_sharding.manifest import ShardSet
from data_sharding.reader import ShardReader
from data_sharding.schema import ShardError


@pytest.fixture
def copy(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "copy")


def read_all(folder):
    reader = ShardReader(ShardSet.open(folder))
    return [reader.read(sample_id) for sample_id in range(len(reader))]


def test_a_flipped_byte_names_shard_offset_and_key(copy):
    tar = copy / "shard-000001.tar"
    index = read_index(copy / "shard-000001.idx")
    place = int(index.sample_offsets[3]) + int(index.part_offsets[3, 0])
    content = bytearray(tar.read_bytes())
    content[place] ^= 1
    tar.write_bytes(content)
    with pytest.raises(ShardError, match=rf"shard-000001.tar: 000001-000003.txt at byte {place}"):
        read_all(copy)


def test_every_flipped_byte_of_content_is_noticed(copy):
    tar = copy / "shard-000000.tar"
    whole = tar.read_bytes()
    index = read_index(copy / "shard-000000.idx")
    reader = ShardReader(ShardSet.open(copy))
    for part in index.parts_of(0, index.parts):
        for place in (part.start, part.start + part.length - 1):
            altered = bytearray(whole)
            altered[place] ^= 128
            tar.write_bytes(altered)
            with pytest.raises(ShardError, match=f"000000-000000.{part.suffix}"):
                reader.read(0)
            reader.close()


def test_a_truncated_shard_says_how_many_samples_are_lost(copy):
    tar = copy / "shard-000000.tar"
    index = read_index(copy / "shard-000000.idx")
    tar.write_bytes(tar.read_bytes()[: int(index.sample_offsets[2]) + 100])
    with pytest.raises(ShardError, match=f"{len(index) - 2} of {len(index)} samples are cut off"):
        read_all(copy)
    tar.write_bytes(b"")
    with pytest.raises(ShardError, match=f"{len(index)} of {len(index)} samples are cut off"):
        read_all(copy)


def test_a_shard_truncated_while_it_is_read_is_noticed(copy):
    reader = ShardReader(ShardSet.open(copy))
    reader.read(0)
    with (copy / "shard-000000.tar").open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(ShardError, match=r"ends before byte \d+, within 000000-000005"):
        reader.read(5)


def test_a_missing_shard_or_index_is_named(copy):
    (copy / "shard-000001.tar").unlink()
    with pytest.raises(ShardError, match=r"shard-000001.tar: cannot be opened \(No such file"):
        read_all(copy)
    (copy / "shard-000000.idx").unlink()
    with pytest.raises(ShardError, match=r"shard-000000\.idx"):
        read_all(copy)


def test_the_index_of_another_shard_is_refused(copy):
    shutil.copy(copy / "shard-000001.idx", copy / "shard-000000.idx")
    with pytest.raises(ShardError, match="belongs to another shard set"):
        read_all(copy)


def test_only_the_wanted_parts_are_read(shards):
    reader = ShardReader(ShardSet.open(shards))
    assert set(reader.read(0, ("txt",)).members) == {"txt"}
    assert set(reader.read(0, ("webm",)).members) == set()


def test_a_split_numbers_its_own_samples_from_zero(shards):
    reader = ShardReader(ShardSet.open(shards, "test"))
    assert len(reader) == 6
    assert [reader.read(number).sample_id for number in range(6)] == list(range(6))
    with pytest.raises(IndexError, match="has 6 samples, not 6"):
        reader.read(6)
