import pickle
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_sharding.stream.order import LaneOrder, OrderConfig, Slice
from data_sharding.stream.permutation import Permutation

shard_sizes = st.lists(st.integers(0, 30), min_size=1, max_size=8)
seeds = st.integers(0, 2**40)


@st.composite
def settings_of_orders(draw):
    sizes = draw(shard_sizes.filter(any))
    block = draw(st.integers(1, 9))
    num_blocks = sum(-(-size // block) for size in sizes)
    return sizes, {
        "seed": draw(seeds),
        "block_samples": block,
        "window_blocks": draw(st.integers(1, 5)),
        "lanes": draw(st.integers(1, min(num_blocks, 6))),
    }


def order_of(setting):
    sizes, fields = setting
    return LaneOrder(sizes, OrderConfig(**fields))


def whole_batch(order, step, global_batch, world_size):
    parts = [
        order.batch(step, Slice(global_batch=global_batch, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    ids = np.concatenate([part.sample_ids for part in parts])
    return list(zip(np.concatenate([p.epochs for p in parts]), ids, strict=True))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 500), key=st.tuples(seeds, st.integers(0, 1000)))
def test_a_permutation_visits_every_index_once_and_can_be_undone(size, key):
    permutation = Permutation(size, key)
    images = permutation.forward(np.arange(size))
    assert sorted(images) == list(range(size))
    assert (permutation.inverse(images) == np.arange(size)).all()


def test_a_permutation_of_a_huge_range_stays_in_range_and_is_undone():
    indices = np.arange(0, 10**15, 10**11)
    permutation = Permutation(10**15 + 7, (1, 2))
    images = permutation.forward(indices)
    assert images.min() >= 0
    assert images.max() < 10**15 + 7
    assert (permutation.inverse(images) == indices).all()


def test_every_place_is_taken_equally_often_over_the_epochs():
    places = [Permutation(7, (0, epoch)).forward(np.array([3]))[0].item() for epoch in range(1400)]
    counts = np.bincount(places, minlength=7)
    assert ((counts - 200) ** 2 / 200).sum() < 22.5  # chi squared, 6 degrees, p = 0.001


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_orders(), epochs=st.integers(1, 3))
def test_every_sample_comes_once_in_each_epoch_of_the_lanes(setting, epochs):
    order = order_of(setting)
    lanes = order.config.lanes
    for epoch in range(epochs):
        seen = []
        for lane in range(lanes):
            start = sum(order.lane_samples(lane, earlier) for earlier in range(epoch))
            draws = order.draws(lane, start, order.lane_samples(lane, epoch))
            assert (draws.epochs == epoch).all()
            seen += draws.sample_ids.tolist()
        assert sorted(seen) == list(range(len(seen)))


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_orders(), depth=st.integers(1, 4), step=st.integers(0, 50))
def test_the_global_batch_is_the_same_for_every_number_of_ranks(setting, depth, step):
    order = order_of(setting)
    batch = order.config.lanes * depth
    expected = whole_batch(order, step, batch, 1)
    for world_size in (size for size in range(2, batch + 1) if batch % size == 0):
        assert whole_batch(order, step, batch, world_size) == expected


@settings(max_examples=40, deadline=None)
@given(
    setting=settings_of_orders(), step=st.integers(0, 50), cut=st.tuples(*[st.integers(1, 3)] * 3)
)
def test_at_any_time_the_ranks_take_consecutive_samples_of_the_global_batch(setting, step, cut):
    order = order_of(setting)
    world_size, micro, turns = order.config.lanes * cut[0], cut[1], cut[2]
    batch = world_size * micro * turns
    whole = order.batch(step, Slice(global_batch=batch)).sample_ids
    parts = [
        Slice(global_batch=batch, rank=rank, world_size=world_size, micro_batch=micro)
        for rank in range(world_size)
    ]
    taken = np.stack([order.batch(step, part).sample_ids.reshape(turns, micro) for part in parts])
    assert (taken.swapaxes(0, 1).ravel() == whole).all()  # turn by turn, rank by rank


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_orders(), step=st.integers(0, 25))
def test_any_step_can_be_reached_without_the_steps_before(setting, step):
    order = order_of(setting)
    batch = order.config.lanes * 2
    fresh = pickle.loads(pickle.dumps(order))
    for earlier in range(step):
        order.batch(earlier, Slice(global_batch=batch))
    assert whole_batch(order, step, batch, 1) == whole_batch(fresh, step, batch, 1)


def test_ranks_may_change_from_24_to_8_to_6_in_mid_epoch():
    order = LaneOrder([50] * 10, OrderConfig(seed=3, block_samples=5, window_blocks=2, lanes=24))
    changing = [whole_batch(order, step, 48, world) for step, world in enumerate((24, 8, 6))]
    assert changing == [whole_batch(order, step, 48, 1) for step in range(3)]


def test_epochs_and_seeds_have_different_orders():
    def first_epoch(seed, epoch):
        order = LaneOrder([100], OrderConfig(seed=seed, block_samples=4, lanes=1))
        return order.draws(0, 100 * epoch, 100).sample_ids.tolist()

    assert len({tuple(first_epoch(*pair)) for pair in ((0, 0), (0, 1), (1, 0))}) == 3


def test_the_order_of_a_seed_never_changes():
    order = LaneOrder([6, 5], OrderConfig(seed=7, block_samples=2, window_blocks=2, lanes=2))
    ids = order.batch(0, Slice(global_batch=12)).sample_ids.tolist()
    assert ids == [5, 10, 4, 7, 6, 9, 0, 9, 1, 8, 2, 3]


def test_one_block_for_each_lane_is_enough():
    order = LaneOrder([8], OrderConfig(block_samples=2, lanes=4))
    assert len(order.batch(100, Slice(global_batch=4))) == 4


def test_too_few_blocks_are_refused_with_the_values_to_choose():
    with pytest.raises(ValueError, match="block_samples = 3 or less, or lanes = 1 or less"):
        LaneOrder([10], OrderConfig(block_samples=16, lanes=4))
    with pytest.raises(ValueError, match="choose lanes = 1 or less"):
        LaneOrder([3], OrderConfig(block_samples=16, lanes=4))


def test_ranks_that_do_not_divide_the_global_batch_are_refused():
    with pytest.raises(ValueError, match="choose 30 or 33"):
        Slice(global_batch=32, rank=0, world_size=3)


def test_lanes_that_do_not_divide_the_global_batch_are_refused():
    order = LaneOrder([64], OrderConfig(block_samples=4, lanes=8))
    with pytest.raises(ValueError, match="choose lanes = 6"):
        order.batch(0, Slice(global_batch=12))


@settings(max_examples=60, deadline=None)
@given(setting=settings_of_orders(), start=st.integers(0, 300), counts=st.lists(st.integers(1, 40)))
def test_any_stretches_of_slots_give_each_draw_of_the_lanes_once(setting, start, counts):
    order = order_of(setting)
    lanes, drawn = order.config.lanes, {}
    for count in counts:
        draws = order.slots(start, count, (0, count))
        assert sorted(draws.slots.tolist()) == list(range(start, start + count))
        drawn.update(zip(draws.slots.tolist(), draws.sample_ids.tolist(), strict=True))
        start += count
    for slot, sample_id in drawn.items():
        assert order.draws(slot % lanes, slot // lanes, 1).sample_ids.tolist() == [sample_id]


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_orders(), start=st.integers(0, 90), count=st.integers(1, 40))
def test_a_stretch_is_the_same_in_one_piece_and_in_many(setting, start, count):
    order = order_of(setting)
    whole = order.slots(start, count, (0, count)).sample_ids.tolist()
    cuts = [order.slots(start, count, (place, place + 1)).sample_ids for place in range(count)]
    assert np.concatenate(cuts).tolist() == whole


@settings(max_examples=40, deadline=None)
@given(setting=settings_of_orders(), slot=st.integers(0, 200))
def test_the_others_of_a_window_follow_in_drawn_order_and_begin_anew_at_its_end(setting, slot):
    order = order_of(setting)
    lane, draw = slot % order.config.lanes, slot // order.config.lanes
    assume(len(order._window_at(lane, draw).sample_ids) > 1)
    others = order.others(slot).tolist()
    size = len(others) + 1
    stretches = [
        (order.draws(lane, draw - before, size).sample_ids.tolist(), before)
        for before in range(min(size, draw + 1))
    ]
    assert any(ids[before + 1 :] + ids[:before] == others for ids, before in stretches)
    assert order.draws(lane, draw, 1).sample_ids[0] not in others


def test_a_sample_alone_in_its_window_has_others_before_it_or_in_other_lanes():
    one_lane = LaneOrder([65], OrderConfig(lanes=1, window_blocks=4))
    for slot in range(3 * 65):
        assert len(one_lane.others(slot)) > 0
    two_lanes = LaneOrder([2], OrderConfig(lanes=2, block_samples=1))
    assert [two_lanes.others(slot).tolist() for slot in (0, 1)] in ([[0], [1]], [[1], [0]])


def test_every_sample_comes_once_from_shards_of_one_sample():
    order = LaneOrder([1] * 30, OrderConfig(block_samples=4, window_blocks=3, lanes=5))
    ids = [order.batch(step, Slice(global_batch=10)).sample_ids.tolist() for step in range(3)]
    assert sorted(sample for batch in ids for sample in batch) == list(range(30))


def test_a_billion_samples_are_ordered_at_once():
    start = time.perf_counter()
    order = LaneOrder([5_000] * 200_000, OrderConfig(block_samples=32, lanes=64))
    batch = order.batch(10**7, Slice(global_batch=256))
    assert len(set(batch.sample_ids.tolist())) == 256
    assert time.perf_counter() - start < 5.0
