import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_sharding.index import HEADER, ShardIndex, decode_index, encode_index, read_index
from data_sharding.schema import PARTS, ShardError


def random_index(num_samples, parts, seed):
    rng = np.random.default_rng(seed)
    shape = (num_samples, len(parts))
    spans = rng.integers(1, 2**33, num_samples)
    room = np.minimum(spans, 2**32)[:, None] * np.ones(shape, np.int64)
    lengths = rng.integers(0, room)
    bounds = np.concatenate([[0], np.cumsum(spans)]).astype(np.uint64)
    return ShardIndex(
        parts=tuple(parts),
        tar_bytes=int(bounds[-1]) + 1024,
        tar_sha256=rng.bytes(32),
        sample_offsets=bounds,
        part_offsets=rng.integers(0, room - lengths).astype(np.uint32),
        part_lengths=lengths.astype(np.uint32),
        part_crc32=rng.integers(0, 2**32, shape).astype(np.uint32),
    )


@settings(max_examples=50, deadline=None)
@given(
    num_samples=st.integers(0, 5),
    parts=st.lists(st.sampled_from(list(PARTS)), min_size=1, unique=True),
    seed=st.integers(0, 2**30),
)
def test_an_index_is_read_back_as_it_was_written(num_samples, parts, seed):
    index = random_index(num_samples, parts, seed)
    copy = decode_index(encode_index(index), "x.idx")
    assert (copy.parts, copy.tar_bytes, copy.tar_sha256) == (
        index.parts,
        index.tar_bytes,
        index.tar_sha256,
    )
    for name in ("sample_offsets", "part_offsets", "part_lengths", "part_crc32"):
        assert np.array_equal(getattr(copy, name), getattr(index, name))


def test_a_sample_of_four_parts_takes_56_bytes(shards):
    index = read_index(shards / "shard-000000.idx")
    size = (shards / "shard-000000.idx").stat().st_size
    fixed = HEADER.size + 8 * len(index.parts) + 8 + 32
    assert size - fixed == len(index) * (8 + 12 * len(index.parts))


def test_any_flipped_byte_of_an_index_is_noticed(shards):
    content = (shards / "shard-000000.idx").read_bytes()
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        with pytest.raises(ShardError, match=r"x\.idx"):
            decode_index(bytes(altered), "x.idx")


def test_a_truncated_index_is_noticed(shards):
    content = (shards / "shard-000000.idx").read_bytes()
    for length in (0, 7, 60, len(content) - 1):
        with pytest.raises(ShardError, match=r"x\.idx"):
            decode_index(content[:length], "x.idx")


def test_ranges_outside_the_shard_are_refused_even_with_a_right_digest(shards):
    index = read_index(shards / "shard-000000.idx")
    lengths = index.part_lengths.copy()
    lengths[0, 0] = 2**31
    lying = ShardIndex(**{**vars(index), "part_lengths": lengths})
    with pytest.raises(ShardError, match="outside the shard"):
        decode_index(encode_index(lying), "x.idx")


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(ShardError, match=r"shard-000007.idx.*No such file"):
        read_index(tmp_path / "shard-000007.idx")
