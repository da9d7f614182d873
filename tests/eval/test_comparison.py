import math

import numpy as np
import pytest
from scipy import stats

from eval.comparison import compare, summarise


def test_the_uncorrected_interval_is_scipys_t_interval():
    values = [0.5, 0.6, 0.55, 0.7]
    found = summarise(values, test_share=0.25).interval_uncorrected
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_overlapping_splits_widen_the_interval_as_nadeau_and_bengio_say():
    found = summarise([0.5, 0.6, 0.55, 0.7, 0.65], test_share=0.25)
    wide = found.interval.high - found.interval.low
    narrow = found.interval_uncorrected.high - found.interval_uncorrected.low
    assert wide / narrow == pytest.approx(math.sqrt((1 / 5 + 0.25) / (1 / 5)))


def test_a_steady_gain_over_ten_splits_beats():
    base = np.linspace(0.3, 0.5, 10)
    found = compare(list(base + 0.1 + 0.01 * np.sin(np.arange(10))), list(base), 0.25)
    assert found.beats is True
    assert "above zero" in found.reason


def test_equal_scores_do_not_beat():
    same = [0.4] * 10
    found = compare(same, same, 0.25)
    assert found.beats is False
    assert found.difference.interval.low == found.difference.interval.high == 0.0


def test_a_gain_within_the_noise_does_not_beat():
    noise = [0.1 * (-1) ** place for place in range(10)]
    found = compare([0.41 + value for value in noise], [0.4] * 10, 0.25)
    assert found.beats is False
    assert "holds zero" in found.reason


def test_fewer_than_ten_splits_give_no_verdict():
    found = compare([0.9] * 9, [0.1] * 9, 0.25)
    assert found.beats is None
    assert "at least 10" in found.reason


def test_one_split_has_no_spread():
    found = summarise([0.5], 0.25)
    assert found.sd is None
    assert found.interval is None


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        summarise([0.5, float("nan")], 0.25)
