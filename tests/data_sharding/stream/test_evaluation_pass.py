import shutil

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from data_sharding.decode import Decoder
from data_sharding.index import read_index
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.schema import ShardError
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.stream.loader import evaluation_pass
from data_sharding.stream.order import Slice
from tiny_corpus import FixedShapes, write_corpus


def batches_of(folder, part, split="test", num_workers=0):
    decoder = Decoder(folder / "stats" / "tokenizer.json")
    shard_set = ShardSet.open(folder, split)
    return list(evaluation_pass(shard_set, decoder, FixedShapes(), part, num_workers))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_sample_comes_once_in_order_with_its_metadata(shards, num_workers):
    batches = batches_of(shards, Slice(global_batch=4), num_workers=num_workers)
    assert [len(batch) for batch in batches] == [4, 4]
    ids = torch.cat([batch.sample_ids[batch.valid] for batch in batches])
    assert ids.tolist() == list(range(6))
    cards = [card for batch in batches for card in batch.metadata]
    speakers = [card["metadata"]["speaker"] for card in cards]
    assert speakers == [0, 4, 8, 12, 16, 20, 20, 20]
    assert batches[0].texts[0] == "red number 0"
    assert all(batch.present.all() for batch in batches)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_rank_has_as_many_whole_batches_and_all_together_every_sample_once(
    shards, world_size
):
    ranks = [
        batches_of(shards, Slice(global_batch=2 * world_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert {tuple(len(batch) for batch in rank) for rank in ranks} == {(2,) * len(ranks[0])}
    seen = [batch.sample_ids[batch.valid].tolist() for rank in ranks for batch in rank]
    assert sorted(sample for ids in seen for sample in ids) == list(range(6))


def test_a_set_that_fills_its_batches_is_not_padded(shards):
    batches = batches_of(shards, Slice(global_batch=6))
    assert [batch.valid.tolist() for batch in batches] == [[True] * 6]


def test_a_bad_sample_fails_an_evaluation_pass(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "copy")
    entry = ShardSet.open(copy, "test").shards[0]
    index = read_index(copy / entry.index_file)
    content = bytearray((copy / entry.file).read_bytes())
    content[index.parts_of(2, index.parts)[1].start + 9] ^= 1
    (copy / entry.file).write_bytes(content)
    with pytest.raises(ShardError, match=rf"{entry.file}: \d+-000002\.\w+: .* CRC32"):
        batches_of(copy, Slice(global_batch=3))


def run_rank(rank, folder, meeting_point):
    """One of two gloo ranks: a collective call for each batch, as a distributed metric has."""
    dist.init_process_group("gloo", init_method=meeting_point, rank=rank, world_size=2)
    total = torch.zeros(2, dtype=torch.int64)
    for batch in batches_of(folder, Slice(global_batch=4, rank=rank, world_size=2), "train"):
        counts = torch.stack([batch.valid.sum(), (batch.sample_ids * batch.valid).sum()])
        dist.all_reduce(counts)
        total += counts
    assert total.tolist() == [9, sum(range(9))]
    dist.destroy_process_group()


def run_ranks(_, *given):
    """Forked from one process that has imported all, which takes longer than two passes."""
    mp.start_processes(run_rank, given, nprocs=2, start_method="fork")


def test_two_gloo_ranks_on_uneven_shards_end_together(tmp_path):
    write_corpus(tmp_path / "corpus", 12)
    shard_corpus(tmp_path / "corpus", tmp_path / "out", ShardingConfig(samples_per_shard=5))
    compute_stats(tmp_path / "out", StatsConfig())
    assert ShardSet.open(tmp_path / "out", "train").shard_sizes == (5, 4)
    given = (tmp_path / "out", f"file://{tmp_path}/meeting")
    group = mp.spawn(run_ranks, given, nprocs=1, join=False)
    for _ in range(120):
        if group.join(timeout=1.0):
            return
    for process in group.processes:
        process.kill()
    pytest.fail("two ranks did not end within two minutes")
