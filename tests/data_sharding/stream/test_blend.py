import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_sharding.stream.blend import BlendCounts, BlendOrder, Phase, floor_sum
from data_sharding.stream.order import LaneOrder, OrderConfig, Slice

weight = st.one_of(st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 7.0]), st.floats(1e-6, 1e6))


@st.composite
def blends(draw):
    num_sets = draw(st.integers(1, 6))
    weights = st.lists(weight, min_size=num_sets, max_size=num_sets).filter(any)
    starts = draw(st.lists(st.integers(1, 400), max_size=2, unique=True).map(sorted))
    return num_sets, [(start, tuple(draw(weights))) for start in [0, *starts]]


def phases_of(blend):
    return [Phase(from_sample=start, weights=weights) for start, weights in blend[1]]


def order_of(sizes, phases, global_batch, **fields):
    config = OrderConfig(**{"block_samples": 3, "window_blocks": 2, "lanes": 4, **fields})
    return BlendOrder(sizes, phases, config, global_batch)


def pairs_of(order, step, global_batch, world_size=1):
    parts = [
        order.batch(step, Slice(global_batch=global_batch, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    return [pair for part in parts for pair in zip(part.epochs, part.sample_ids, strict=True)]


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(0, 40),
    modulus=st.integers(1, 50),
    factor=st.integers(-99, 99),
    summand=st.integers(-99, 99),
)
def test_the_closed_form_of_floors_is_their_sum(count, modulus, factor, summand):
    terms = [(factor * number + summand) // modulus for number in range(count)]
    assert floor_sum(count, modulus, factor, summand) == sum(terms)


@settings(max_examples=100, deadline=None)
@given(blend=blends(), global_batch=st.integers(1, 70), step=st.integers(0, 10**9))
def test_every_batch_holds_each_weight_rounded_down_or_up(blend, global_batch, step):
    num_sets, phases = blend[0], phases_of(blend)
    phase = [part for part in phases if part.from_sample <= step * global_batch][-1]
    taken = BlendCounts(phases, num_sets, global_batch).taken(step)
    assert sum(taken) == global_batch
    for count, share in zip(taken, phase.shares(), strict=True):
        assert abs(count - share * global_batch) < 1


@settings(max_examples=60, deadline=None)
@given(blend=blends(), global_batch=st.integers(1, 70), step=st.integers(0, 60))
def test_what_each_set_has_given_is_known_without_the_batches_before(blend, global_batch, step):
    num_sets, phases = blend[0], phases_of(blend)
    fresh, walked = (BlendCounts(phases, num_sets, global_batch) for _ in range(2))
    total = [0] * num_sets
    for earlier in range(step):
        assert walked.before(earlier) == total
        taken = walked.taken(earlier)
        total = [known + new for known, new in zip(total, taken, strict=True)]
    assert fresh.before(step) == total == walked.before(step)


@settings(max_examples=50, deadline=None)
@given(
    weights=st.lists(weight, min_size=1, max_size=6).filter(any),
    batch=st.integers(1, 70),
    start=st.integers(0, 10**7),
    length=st.integers(1, 10**6),
)
def test_any_long_stretch_holds_the_weights_within_a_few_samples(weights, batch, start, length):
    phase = Phase(from_sample=0, weights=tuple(weights))
    before, after = (
        BlendCounts([phase], len(weights), batch).before(step) for step in (start, start + length)
    )
    for low, high, share in zip(before, after, phase.shares(), strict=True):
        assert abs(high - low - share * batch * length) < 25  # grows with the logarithm alone


def test_a_weight_that_divides_the_batch_is_met_exactly():
    counts = BlendCounts([Phase(from_sample=0, weights=(0.4, 0.3, 0.3))], 3, 10)
    assert {tuple(counts.taken(step)) for step in range(5_000)} == {(4, 3, 3)}


def test_a_tiny_weight_comes_at_even_distances():
    counts = BlendCounts([Phase(from_sample=0, weights=(0.99, 0.01))], 2, 10)
    steps = [step for step in range(1_000) if counts.taken(step)[1]]
    assert len(steps) in (99, 100, 101)
    assert set(np.diff(steps)) <= {3, 5, 8, 13, 21}


@settings(max_examples=40, deadline=None)
@given(blend=blends(), depth=st.integers(1, 3), step=st.integers(0, 40), data=st.data())
def test_the_blended_batch_is_the_same_for_every_number_of_ranks(blend, depth, step, data):
    num_sets, phases = blend[0], phases_of(blend)
    sizes = data.draw(
        st.lists(
            st.lists(st.integers(1, 20), min_size=4, max_size=5),
            min_size=num_sets,
            max_size=num_sets,
        )
    )
    batch = 12 * depth
    order = order_of(sizes, phases, batch)
    fresh = pickle.loads(pickle.dumps(order))
    for earlier in range(step % 5):
        order.batch(earlier, Slice(global_batch=batch))
    whole = pairs_of(order, step, batch)
    for world_size in (2, 3, 4, 6, 12):
        assert pairs_of(fresh, step, batch, world_size) == whole


def test_each_set_of_a_blend_gives_every_sample_once_an_epoch():
    sizes = [[10, 11, 7], [5, 5, 5, 5], [3]]
    phases = [
        Phase(from_sample=0, weights=(0.5, 0.3, 0.2)),
        Phase(from_sample=48, weights=(0.1, 0.8, 0.1)),
    ]
    order = order_of(sizes, phases, 12)
    seen = {}
    for step in range(60):
        for epoch, sample_id in pairs_of(order, step, 12):
            seen[(epoch, sample_id)] = seen.get((epoch, sample_id), 0) + 1
    assert set(seen.values()) == {1}
    first_epoch = {sample_id for epoch, sample_id in seen if epoch == 0}
    assert first_epoch == set(range(51))


def test_ranks_may_change_from_24_to_8_to_6_in_the_middle_of_a_blend():
    phases = [Phase(from_sample=0, weights=(0.7, 0.3)), Phase(from_sample=96, weights=(0.2, 0.8))]
    order = order_of([[50] * 4, [30] * 5], phases, 48)
    changing = [pairs_of(order, step, 48, world) for step, world in enumerate((24, 8, 6))]
    assert changing == [pairs_of(order, step, 48) for step in range(3)]


def test_ranks_that_take_turns_share_the_batches_of_a_blend():
    phases = [Phase(from_sample=0, weights=(0.7, 0.3))]
    order = order_of([[50] * 4, [30] * 5], phases, 48)
    for step in range(4):
        whole = order.batch(step, Slice(global_batch=48)).sample_ids.reshape(4, 3, 4)
        for rank in range(3):
            part = Slice(global_batch=48, rank=rank, world_size=3, micro_batch=4)
            assert (order.batch(step, part).sample_ids.reshape(4, 4) == whole[:, rank]).all()


def test_a_later_phase_changes_nothing_before_it():
    first = Phase(from_sample=0, weights=(0.5, 0.5))
    later = Phase(from_sample=120, weights=(0.9, 0.1))
    sizes = [[40, 40], [40, 40]]
    before, after = order_of(sizes, [first], 24), order_of(sizes, [first, later], 24)
    batches = [(pairs_of(before, step, 24), pairs_of(after, step, 24)) for step in range(8)]
    assert [old == new for old, new in batches] == [True] * 5 + [False] * 3


def test_one_set_alone_has_the_order_of_its_lanes():
    config = OrderConfig(block_samples=3, window_blocks=2, lanes=4)
    alone = LaneOrder([20, 20], config)
    blend = BlendOrder([[20, 20]], [Phase(from_sample=0, weights=(2.5,))], config, 8)
    for step in range(20):
        part = Slice(global_batch=8, rank=1, world_size=2)
        assert (blend.batch(step, part).sample_ids == alone.batch(step, part).sample_ids).all()


def test_equal_sets_of_a_blend_have_orders_of_their_own():
    order = order_of([[60], [60]], [Phase(from_sample=0, weights=(1.0, 1.0))], 24)
    ids = order.batch(0, Slice(global_batch=24)).sample_ids
    assert (ids[:12] != ids[12:] - 60).any()


def test_shares_are_as_exact_as_they_were_written():
    shares = Phase(from_sample=0, weights=(0.1, 0.2, 0.7)).shares()
    assert shares == (Fraction(1, 10), Fraction(1, 5), Fraction(7, 10))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((0.0, 0.0), "at least one weight"),
        ((-1.0, 2.0), "0 or more"),
        ((float("nan"), 1.0), "finite"),
        ((float("inf"), 1.0), "finite"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        Phase(from_sample=0, weights=weights)


def test_phases_that_do_not_follow_each_other_are_refused():
    def phases(*starts):
        return [Phase(from_sample=start, weights=(1.0,)) for start in starts]

    for wrong, message in (
        ([], "sample 0"),
        (phases(5), "sample 0"),
        (phases(0, 9, 9), "one after the other"),
        ([Phase(from_sample=0, weights=(1.0, 1.0))], "1 sets need 1 weights"),
    ):
        with pytest.raises(ValueError, match=message):
            BlendCounts(wrong, 1, 8)
