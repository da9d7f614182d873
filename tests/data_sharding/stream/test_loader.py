from itertools import islice

import pytest
import torch

from data_sharding.batch import TripleBatch
from data_sharding.decode import Decoder
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.stream.loader import LoaderConfig, TripleLoader
from data_sharding.stream.order import OrderConfig, Slice
from data_sharding.stream.source import append_phase, open_stream, write_blend
from tiny_corpus import FixedShapes, write_corpus

ORDER = OrderConfig(seed=5, block_samples=3, window_blocks=2, lanes=4)


def loader(folder, part, num_workers=0, order=ORDER):
    config = LoaderConfig(num_workers=num_workers, prefetch_batches=2, order=order)
    decoder = Decoder(folder / "stats" / "tokenizer.json")
    return TripleLoader(open_stream(folder), decoder, FixedShapes(), part, config)


def first(folder, count, part, num_workers=0, consumed=0):
    source = loader(folder, part, num_workers)
    batches = list(islice(source.batches(consumed), count))
    source.close()
    return batches


def content(batch):
    tensors = (batch.token_ids, batch.image, batch.waveform, batch.epochs, batch.present)
    return batch.keys, *(tensor.tolist() for tensor in tensors)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("num_workers", [1, 3])
def test_any_number_of_workers_gives_the_same_batches(shards, num_workers):
    part = Slice(global_batch=4)
    inline = [content(batch) for batch in first(shards, 6, part)]
    assert [content(batch) for batch in first(shards, 6, part, num_workers)] == inline


@pytest.mark.parametrize("world_size", [2, 4])
def test_any_number_of_ranks_gives_the_same_global_batches(shards, world_size):
    whole = [batch.keys for batch in first(shards, 5, Slice(global_batch=8))]
    ranks = [
        first(shards, 5, Slice(global_batch=8, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    joined = [sum((batch.keys for batch in parts), ()) for parts in zip(*ranks, strict=True)]
    assert joined == whole


@pytest.mark.parametrize("step", [1, 4, 9])
def test_a_restart_continues_at_the_next_sample(shards, step):
    part = Slice(global_batch=8)
    whole = [content(batch) for batch in first(shards, 12, part)]
    again = first(shards, 12 - step, part, consumed=8 * step)
    assert [content(batch) for batch in again] == whole[step:]


def test_a_resume_with_another_global_batch_is_refused(shards):
    with pytest.raises(ValueError, match="12 samples consumed is no multiple"):
        loader(shards, Slice(global_batch=8)).batches(12)


def test_lanes_that_do_not_divide_the_batch_are_refused_at_once(shards):
    with pytest.raises(ValueError, match="lanes do not divide"):
        loader(shards, Slice(global_batch=6))


@pytest.fixture(scope="module")
def blend(tmp_path_factory, shards):
    """The common set and another one of 12 samples, half and half, later one to three."""
    folder = tmp_path_factory.mktemp("blend")
    write_corpus(folder / "corpus", 16)
    shard_corpus(folder / "corpus", folder / "other", ShardingConfig(samples_per_shard=5))
    write_blend(folder / "mix", {str(shards): 0.5, str(folder / "other"): 0.5}, "train")
    append_phase(folder / "mix", {str(shards): 1.0, str(folder / "other"): 3.0}, 24, "train")
    compute_stats(folder / "mix", StatsConfig())
    return folder / "mix"


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("num_workers", [0, 3])
def test_a_blend_resumes_at_the_next_sample_with_any_number_of_workers_and_ranks(
    blend, num_workers
):
    whole = [content(batch) for batch in first(blend, 6, Slice(global_batch=8))]
    again = first(blend, 4, Slice(global_batch=8), num_workers, consumed=16)
    assert [content(batch) for batch in again] == whole[2:]
    ranks = [first(blend, 6, Slice(global_batch=8, rank=rank, world_size=2)) for rank in (0, 1)]
    joined = [left.keys + right.keys for left, right in zip(*ranks, strict=True)]
    assert joined == [keys for keys, *_ in whole]


def test_a_blend_delivers_its_weights_and_says_so(blend):
    source = loader(blend, Slice(global_batch=8))
    stream = source.batches(0)
    from_first = [int((next(stream).sample_ids < 18).sum()) for _ in range(3)]
    assert from_first == [4, 4, 4]
    assert source.health().set_shares == (0.5, 0.5)
    later = [int((next(stream).sample_ids < 18).sum()) for _ in range(3)]
    assert later == [2, 2, 2]
    assert source.health().set_shares == (0.25, 0.75)
    source.close()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_says_how_fast_it_is_and_what_it_waited_for(shards, num_workers):
    source = loader(shards, Slice(global_batch=8), num_workers)
    stream = source.batches(0)
    for _ in range(4):
        next(stream)
    health = source.health()
    assert health.samples_per_second > 0.0
    assert 0.0 < health.wait_share <= 1.0
    assert health.megabytes_per_second > 0.0
    assert (health.cache_hit_share, health.retries, health.substitutions) == (None, 0, 0)
    assert "cache_hit_share" not in health.values()
    assert source.health().samples_per_second == 0.0  # nothing since the last call
    source.close()


def test_training_batches_are_whole(shards):
    (batch,) = first(shards, 1, Slice(global_batch=4))
    assert batch.valid.tolist() == [True] * 4


def test_fewer_shards_than_ranks_and_workers_are_no_obstacle(tmp_path):
    write_corpus(tmp_path / "corpus", 16)
    shard_corpus(tmp_path / "corpus", tmp_path / "out", ShardingConfig())
    compute_stats(tmp_path / "out", StatsConfig())
    order = OrderConfig(block_samples=3, window_blocks=2, lanes=4)
    ids = []
    for rank in range(4):
        source = loader(tmp_path / "out", Slice(global_batch=4, rank=rank, world_size=4), 1, order)
        ids += [batch.sample_ids.item() for batch in islice(source.batches(0), 3)]
        source.close()
    assert sorted(ids) == list(range(12))


def test_training_batches_carry_no_metadata(shards):
    (batch,) = first(shards, 1, Slice(global_batch=4))
    assert (batch.metadata, batch.texts) == ((), ())


@pytest.mark.parametrize("missing", [("text",), ("image",), ("audio",), ("image", "audio")])
def test_a_corpus_without_a_modality_loads_with_zeros_and_a_mask(tmp_path, missing):
    write_corpus(tmp_path / "corpus", 8, missing=missing)
    shard_corpus(tmp_path / "corpus", tmp_path / "out", ShardingConfig())
    compute_stats(tmp_path / "out", StatsConfig())
    order = OrderConfig(block_samples=1, lanes=4)
    source = loader(tmp_path / "out", Slice(global_batch=4), order=order)
    batch = next(source.batches(0))
    expected = [name not in missing for name in ("text", "image", "audio")]
    assert batch.present.tolist() == [expected] * 4
    for name, tensor in (("text", batch.token_ids), ("image", batch.image)):
        assert bool(tensor.any()) == (name not in missing)


def test_a_batch_can_be_sliced_and_moved(shards):
    (batch,) = first(shards, 1, Slice(global_batch=8))
    half: TripleBatch = batch.slice(2, 6)
    assert (len(half), half.keys) == (4, batch.keys[2:6])
    assert torch.equal(half.image, batch.image[2:6])
    assert half.to("cpu").keys == half.keys
