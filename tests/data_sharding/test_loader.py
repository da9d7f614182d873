import shutil
from itertools import islice

import pytest
import torch

from data_sharding import decode
from data_sharding.batch import TripleBatch
from data_sharding.decode import Decoder
from data_sharding.index import read_index
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.loader import LoaderConfig, TripleLoader, evaluation_pass
from data_sharding.manifest import ShardSet
from data_sharding.order import OrderConfig, Slice
from data_sharding.schema import ShardError
from data_sharding.stats import StatsConfig, compute_stats
from tiny_corpus import FixedShapes, write_corpus

ORDER = OrderConfig(seed=5, block_samples=3, window_blocks=2, lanes=4)


def loader(folder, part, num_workers=0, order=ORDER):
    config = LoaderConfig(num_workers=num_workers, prefetch_batches=2, order=order)
    decoder = Decoder(folder / "stats" / "tokenizer.json")
    return TripleLoader(ShardSet.open(folder, "train"), decoder, FixedShapes(), part, config)


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


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_sample_that_cannot_be_decoded_names_shard_and_key(shards, tmp_path, num_workers):
    copy = shutil.copytree(shards, tmp_path / "copy")
    for tar in copy.glob("*.tar"):
        index = read_index(tar.with_suffix(".idx"))
        altered = bytearray(tar.read_bytes())
        for row in range(len(index)):
            altered[index.parts_of(row, index.parts)[1].start + 9] ^= 1
        tar.write_bytes(altered)
    pattern = r"shard-00000\d.tar: 00000\d-00000\d\.\w+ at byte \d+ does not match its CRC32"
    with pytest.raises(ShardError, match=pattern) as caught:
        first(copy, 1, Slice(global_batch=4), num_workers)
    assert "\n" not in str(caught.value)


def test_a_decode_failure_is_a_shard_error(shards, monkeypatch):
    def fail(*_):
        raise decode.DecodeError("broken JPEG: made up")

    monkeypatch.setattr(decode, "decode_image", fail)
    with pytest.raises(ShardError, match=r"shard-00000\d.tar: 00000\d-00000\d\.\w+: broken JPEG"):
        first(shards, 1, Slice(global_batch=4))


def test_an_evaluation_pass_has_every_sample_once_in_order_with_its_metadata(shards):
    decoder = Decoder(shards / "stats" / "tokenizer.json")
    batches = list(evaluation_pass(ShardSet.open(shards, "test"), decoder, FixedShapes(), 4))
    assert [len(batch) for batch in batches] == [4, 2]
    assert torch.cat([batch.sample_ids for batch in batches]).tolist() == list(range(6))
    cards = [card for batch in batches for card in batch.metadata]
    assert [card["metadata"]["speaker"] for card in cards] == [0, 4, 8, 12, 16, 20]
    assert batches[0].texts[0] == "red number 0"
    assert batches[0].present.all()


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
