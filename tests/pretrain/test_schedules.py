from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pretrain.schedules import ema_tau, linear_ramp, warmup_cosine

steps = st.integers(1, 10**6)


@given(steps, st.floats(0.0, 0.9999))
def test_tau_goes_from_its_base_to_one_and_never_back(total, base):
    values = [ema_tau(total * k // 20, total, base) for k in range(21)]
    assert abs(values[0] - base) < 1e-12
    assert values[-1] == 1.0
    assert all(a <= b for a, b in pairwise(values))


def test_tau_halfway_is_halfway():
    assert abs(ema_tau(500, 1000, 0.99) - 0.995) < 1e-12


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
