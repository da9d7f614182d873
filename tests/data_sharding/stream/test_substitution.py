import json
import logging
import shutil
from itertools import chain, islice

import pytest

from data_sharding import decode
from data_sharding.decode import Decoder
from data_sharding.index import read_index
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ReaderConfig
from data_sharding.retry import RetryConfig
from data_sharding.schema import SampleFault, ShardError
from data_sharding.stream.loader import LoaderConfig, TripleLoader
from data_sharding.stream.order import OrderConfig, Slice
from data_sharding.stream.source import open_stream
from data_sharding.stream.substitution import FaultBudget, Ledger, Substitution
from tiny_corpus import FixedShapes

ORDER = OrderConfig(seed=5, block_samples=3, window_blocks=2, lanes=2)
IMPATIENT = ReaderConfig(retry=RetryConfig(attempts=1))
TOLERANT = FaultBudget(max_share=1.0, max_consecutive=1_000)


@pytest.fixture
def copy(shards, tmp_path):
    """A copy of the common set, to break."""
    return shutil.copytree(shards, tmp_path / "copy")


def break_samples(folder, sample_ids):
    """Flips a bit in the picture of some training samples."""
    first = 0
    for entry in ShardSet.open(folder, "train").shards:
        index, tar = read_index(folder / entry.index_file), folder / entry.file
        content = bytearray(tar.read_bytes())
        for row in range(entry.samples):
            if first + row in sample_ids:
                content[index.parts_of(row, index.parts)[1].start + 9] ^= 1
        tar.write_bytes(content)
        first += entry.samples


def loader(folder, part, num_workers=0, faults=TOLERANT, ledger=None):
    config = LoaderConfig(
        num_workers=num_workers,
        prefetch_batches=2,
        order=ORDER,
        reader=IMPATIENT,
        faults=faults,
    )
    decoder = Decoder(folder / "stats" / "tokenizer.json")
    return TripleLoader(open_stream(folder), decoder, FixedShapes(), part, config, ledger)


def sample_ids(folder, count, part, **settings):
    source = loader(folder, part, **settings)
    ids = [batch.sample_ids.tolist() for batch in islice(source.batches(), count)]
    source.close()
    return ids


def fault(number):
    return SampleFault("shard-000000.tar", f"000000-{number:06d}", "jpg", "made up")


def substitution(position, sample_id=0, shard_samples=1_000):
    return Substitution(
        position=position,
        epoch=0,
        sample_id=sample_id,
        shard_samples=shard_samples,
        fault=fault(sample_id),
        replaced_by="000000-000099",
    )


def test_a_bad_sample_is_replaced_within_its_window_and_all_other_places_stay(shards, copy):
    bad = {3, 4, 11}
    break_samples(copy, bad)
    before = sample_ids(shards, 9, Slice(global_batch=4))
    after = sample_ids(copy, 9, Slice(global_batch=4))
    whole = loader(shards, Slice(global_batch=4))
    changed = 0
    for step, (old_ids, new_ids) in enumerate(zip(before, after, strict=True)):
        slots = whole._order.batch(step, Slice(global_batch=4)).slots.tolist()
        for old, new, slot in zip(old_ids, new_ids, slots, strict=True):
            others = [other for other in whole._order.others(0, slot) if other not in bad]
            assert new == (others[0] if old in bad else old)
            changed += old != new
    assert changed == 6  # 36 places are two epochs of 18


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 1), (2, 0), (4, 0), (2, 1)])
def test_replacements_are_the_same_for_any_number_of_ranks_and_workers(
    copy, world_size, num_workers
):
    break_samples(copy, {0, 5, 6, 7, 17})
    whole = sample_ids(copy, 6, Slice(global_batch=8))
    ranks = [
        sample_ids(
            copy,
            6,
            Slice(global_batch=8, rank=rank, world_size=world_size),
            num_workers=num_workers,
        )
        for rank in range(world_size)
    ]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == whole


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_ledger_names_each_bad_sample_why_and_what_took_its_place(
    copy, tmp_path, num_workers, caplog
):
    break_samples(copy, {4})
    ledger = tmp_path / "run" / "ledger-00000.jsonl"
    source = loader(copy, Slice(global_batch=6), num_workers, ledger=ledger)
    with caplog.at_level(logging.WARNING):
        keys = [key for batch in islice(source.batches(), 3) for key in batch.keys]
    (record,) = [json.loads(line) for line in ledger.read_text().splitlines()]
    entry = ShardSet.open(copy, "train").shards[0]
    assert record["shard"] == str(copy / entry.file)
    assert (record["epoch"], record["key"]) == (0, "000000-000004")
    assert record["member"] in ("jpg", "png", "webp")
    assert "CRC32" in record["reason"]
    assert keys.count(record["replaced_by"]) == 2
    assert record["key"] not in keys
    assert f"{record['replaced_by']} takes its place" in caplog.text
    assert source.health().substitutions == 1
    source.close()


def test_a_sample_that_cannot_be_decoded_is_replaced_too(shards, tmp_path, monkeypatch):
    honest = decode.decode_image
    seen = []

    def fail_once(encoded, suffix):
        seen.append(suffix)
        if len(seen) == 1:
            raise decode.DecodeError("broken JPEG: made up")
        return honest(encoded, suffix)

    monkeypatch.setattr(decode, "decode_image", fail_once)
    source = loader(shards, Slice(global_batch=4), ledger=tmp_path / "ledger")
    assert len(next(source.batches())) == 4
    record = json.loads((tmp_path / "ledger").read_text())
    assert (record["member"], record["reason"]) == (seen[0], "broken JPEG: made up")


def test_only_the_samples_that_a_truncated_shard_lost_are_replaced(copy):
    entry = ShardSet.open(copy, "train").shards[1]
    index = read_index(copy / entry.index_file)
    with open(copy / entry.file, "r+b") as tar:
        tar.truncate(int(index.sample_offsets[entry.samples - 2]))
    ids = {sample for batch in sample_ids(copy, 9, Slice(global_batch=4)) for sample in batch}
    first = ShardSet.open(copy, "train").shards[0].samples
    lost = {first + entry.samples - 2, first + entry.samples - 1}
    assert ids == set(range(18)) - lost


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_that_is_gone_fails_the_run_at_once(copy, num_workers):
    entry = ShardSet.open(copy, "train").shards[1]
    (copy / entry.file).unlink()
    with pytest.raises(ShardError, match=entry.file):
        sample_ids(copy, 9, Slice(global_batch=4), num_workers=num_workers)


def test_a_window_without_a_good_sample_fails_the_run(copy):
    break_samples(copy, set(range(18)))
    with pytest.raises(ShardError, match="samples of a window are bad") as caught:
        sample_ids(copy, 1, Slice(global_batch=4))
    assert "triptych verify" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_bad_samples_than_the_budget_allows_fail_the_run(copy):
    break_samples(copy, {3})
    strict = FaultBudget(max_share=0.0)
    with pytest.raises(ShardError, match=r"000000-000003\.\w+: .* CRC32"):
        sample_ids(copy, 9, Slice(global_batch=4), faults=strict)
    assert len(sample_ids(copy, 9, Slice(global_batch=4), faults=FaultBudget())) == 9


def test_the_share_is_counted_over_at_least_ten_thousand_samples():
    ledger = Ledger(FaultBudget(max_share=0.001))
    for number in range(10):
        ledger.add(100, [substitution(0, number)])
    with pytest.raises(ShardError, match=r"max_share = 0\.001 allows: 11 of 1100") as caught:
        ledger.add(100, [substitution(0, 10)])
    assert "000000-000000.jpg: made up" in str(caught.value)
    late = Ledger(FaultBudget(max_share=0.001))
    late.add(50_000, [substitution(place * 10, place) for place in range(50)])
    with pytest.raises(ShardError, match="51 of 50001"):
        late.add(1, [substitution(0, 50)])


def test_bad_samples_in_a_row_are_counted_across_batches():
    ledger = Ledger(FaultBudget(max_share=1.0, max_consecutive=5))
    ledger.add(4, [substitution(2), substitution(3)])
    ledger.add(4, [substitution(0), substitution(1)])
    ledger.add(4, [])
    ledger.add(4, [substitution(place) for place in range(4)])
    with pytest.raises(ShardError, match="5 samples in a row are bad"):
        ledger.add(4, [substitution(0)])


def test_a_shard_of_which_nothing_is_good_fails_the_run():
    ledger = Ledger(TOLERANT)
    for number in range(11):
        ledger.add(50, [substitution(0, number, shard_samples=12)])
        ledger.add(50, [substitution(0, number, shard_samples=12)])  # another epoch
    with pytest.raises(ShardError, match=r"shard-000000.tar has not one good sample"):
        ledger.add(50, [substitution(0, 11, shard_samples=12)])


def test_a_budget_that_means_nothing_is_refused():
    for wrong in ({"max_share": 1.5}, {"max_share": float("nan")}, {"max_consecutive": 0}):
        with pytest.raises(ValueError, match=r"faults\.max_"):
            FaultBudget(**wrong)
