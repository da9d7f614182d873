from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.schedules import (
    ema_tau,
    half_cosine,
    linear_ramp,
    longest_tau,
    preset_tau,
    scale_tau,
    tau_for_length,
    warmup_cosine,
)

steps = st.integers(1, 10**6)


@given(steps, st.floats(0.0, 0.9999))
def test_tau_goes_from_its_base_to_one_and_never_back(total, base):
    values = [ema_tau(total * k // 20, total, base) for k in range(21)]
    assert abs(values[0] - base) < 1e-12
    assert values[-1] == 1.0
    assert all(a <= b for a, b in pairwise(values))


def test_tau_halfway_is_halfway():
    assert abs(ema_tau(500, 1000, 0.99) - 0.995) < 1e-12


def test_deepminds_presets_are_met_at_their_lengths():
    assert [tau_for_length(epochs) for epochs in (40.0, 100.0, 300.0, 1000.0)] == pytest.approx(
        [0.97, 0.99, 0.99, 0.996]
    )
    assert (tau_for_length(0.5), tau_for_length(5000.0)) == (0.97, 0.996)


@given(st.floats(1e-3, 1e5), st.floats(1e-3, 1e5))
def test_a_longer_run_never_has_a_faster_target(one, other):
    shorter, longer = sorted([one, other])
    assert 0.0 < tau_for_length(shorter) <= tau_for_length(longer) + 1e-12 < 1.0


def test_a_quarter_of_the_batch_takes_the_papers_tau():
    assert scale_tau(0.996, 1024 / 4096) == pytest.approx(0.998998, abs=5e-7)


@given(st.floats(0.5, 0.9999), st.floats(1e-3, 16.0), st.floats(1e-3, 16.0))
def test_scaling_a_batch_twice_is_scaling_it_once(tau, first, second):
    twice = scale_tau(scale_tau(tau, first), second)
    assert twice == pytest.approx(scale_tau(tau, first * second), rel=1e-9)


@given(st.floats(0.5, 0.9999), st.integers(1, 64))
def test_many_small_steps_forget_as_much_as_one_large_step(tau, parts):
    assert scale_tau(tau, 1 / parts) ** parts == pytest.approx(tau, rel=1e-9)


@given(st.integers(1, 10**9), st.integers(1, 2**15), steps)
def test_a_preset_target_forgets_its_start_ten_times_within_the_run(samples, batch, total):
    tau = preset_tau(samples, batch, total)
    assert 0.0 <= tau < 1.0
    assert 1.0 / (1.0 - tau) <= max(1.0, total / 10) * (1 + 1e-9)


@given(st.integers(1, 10**6), st.integers(1, 2**13), steps, steps)
def test_more_steps_never_make_a_preset_target_faster(samples, batch, one, other):
    shorter, longer = sorted([one, other])
    assert preset_tau(samples, batch, shorter) <= preset_tau(samples, batch, longer) + 1e-12


def test_a_preset_away_from_its_limit_is_the_scaled_preset():
    # 300 epochs of 1.28 million samples at a batch of 1024.
    total = 300 * 1_280_000 // 1024
    assert preset_tau(1_280_000, 1024, total) == pytest.approx(0.99**0.25)
    assert preset_tau(1_280_000, 1024, total) < longest_tau(total)


@given(steps, st.floats(0.0, 2.0), st.floats(0.0, 2.0))
def test_a_half_cosine_keeps_between_its_ends(total, start, final):
    values = [half_cosine(total * k // 20, total, start, final) for k in range(25)]
    low, high = sorted([start, final])
    assert all(low - 1e-12 <= value <= high + 1e-12 for value in values)
    assert values[0] == pytest.approx(start, abs=1e-12)
    assert values[-1] == values[20] == pytest.approx(final, abs=1e-12)


@given(steps, st.floats(0.0, 0.9), st.floats(1e-8, 10.0))
def test_learning_rate_stays_between_zero_and_its_peak(total, warmup, peak):
    values = [warmup_cosine(total * k // 20, total, int(warmup * total), peak) for k in range(21)]
    assert all(0.0 <= value <= peak * (1 + 1e-12) for value in values)


def test_learning_rate_warms_up_linearly_and_ends_at_zero():
    assert [warmup_cosine(k, 100, 4, 1.0) for k in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert warmup_cosine(100, 100, 4, 1.0) == 0.0


def test_a_ramp_is_zero_then_rises_then_stays_at_one():
    assert [linear_ramp(k, 2, 2) for k in range(6)] == [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    assert linear_ramp(5, 5, 0) == 1.0
