"""The field's scores of sentiment intensity, against scikit-learn, scipy and hand-made values."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from eval.regression_metrics import METRICS_OF_CUTS, pearson, regression_scores

steps = st.integers(-18, 18).map(lambda step: step / 6)
pairs = st.lists(st.tuples(steps, st.floats(-4.0, 4.0)), min_size=1, max_size=40)


def columns(rows):
    return tuple(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))


@settings(deadline=None, max_examples=150)
@given(rows=pairs)
def test_both_two_class_scores_and_the_error_equal_scikit_learns(rows):
    truth, guess = columns(rows)
    found = regression_scores(truth, guess, "mosi").values
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, guess))
    assert found["acc2_has0"] == pytest.approx(accuracy_score(truth >= 0, guess >= 0))
    weighted = f1_score(truth >= 0, guess >= 0, average="weighted")
    assert found["f1_has0"] == pytest.approx(weighted)
    kept = truth != 0
    if kept.any():
        assert found["acc2_non0"] == pytest.approx(accuracy_score(truth[kept] > 0, guess[kept] > 0))
        weighted = f1_score(truth[kept] > 0, guess[kept] > 0, average="weighted")
        assert found["f1_non0"] == pytest.approx(weighted)


@settings(deadline=None, max_examples=150)
@given(rows=pairs)
def test_seven_five_and_three_classes_are_pythons_rounding_after_clipping(rows):
    truth, guess = columns(rows)
    found = regression_scores(truth, guess, "mosi").values
    for name, bound in (("acc7", 3), ("acc5", 2), ("acc3", 1)):
        hits = [
            round(max(-bound, min(bound, one))) == round(max(-bound, min(bound, other)))
            for one, other in rows
        ]
        assert found[name] == pytest.approx(sum(hits) / len(hits))


def sims_class(value, bounds):
    """The interval (low, high] that a value lies in, spelt out."""
    clipped = max(-1.0, min(1.0, value))
    edges = (-1.01, *bounds, 1.01)
    for place, (low, high) in enumerate(itertools.pairwise(edges)):
        if low < clipped <= high:
            return place
    raise AssertionError(value)


@settings(deadline=None, max_examples=150)
@given(rows=st.lists(st.tuples(st.floats(-1, 1), st.floats(-2, 2)), min_size=1, max_size=40))
def test_the_classes_of_ch_sims_are_intervals_closed_above(rows):
    truth, guess = columns(rows)
    found = regression_scores(truth, guess, "sims").values
    for name, bounds in (
        ("acc2_positive", (0.0,)),
        ("acc3", (-0.1, 0.1)),
        ("acc5", (-0.7, -0.1, 0.1, 0.7)),
    ):
        hits = [sims_class(one, bounds) == sims_class(other, bounds) for one, other in rows]
        assert found[name] == pytest.approx(sum(hits) / len(hits))


@settings(deadline=None, max_examples=100)
@given(rows=st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=3, max_size=40))
def test_correlation_equals_scipys_wherever_it_is_defined(rows):
    truth, guess = columns(rows)
    found = pearson(truth, guess)
    if np.std(truth) > 1e-3 and np.std(guess) > 1e-3:
        assert found == pytest.approx(pearsonr(truth, guess)[0], abs=1e-9)


def test_half_way_labels_go_to_the_even_class():
    truth = np.array([0.5, 1.5, 2.5, -0.5, -1.5])
    guess = np.array([0.0, 2.0, 2.0, 0.0, -2.0])
    assert regression_scores(truth, guess, "mosi").values["acc7"] == 1.0


def test_a_label_of_zero_counts_with_zeros_and_is_dropped_without():
    truth, guess = np.array([0.0, 0.0, 1.0, -1.0]), np.array([-0.1, 0.1, 1.0, -1.0])
    found = regression_scores(truth, guess, "mosi").values
    assert found["acc2_has0"] == pytest.approx(0.75)
    assert found["acc2_non0"] == pytest.approx(1.0)


def test_constant_predictions_have_no_correlation_and_json_no_nan():
    found = regression_scores(np.array([-1.0, 0.2, 2.0]), np.full(3, 0.4), "mosi")
    assert "pearson" not in found.values
    assert "constant predictions" in found.undefined["pearson"]
    text = json.dumps({"values": dict(found.values)}, allow_nan=False)
    assert all(math.isfinite(value) for value in json.loads(text)["values"].values())


def test_labels_that_are_all_zero_have_no_two_class_score_without_zeros():
    found = regression_scores(np.zeros(3), np.array([0.1, -0.2, 0.3]), "sign")
    assert found.undefined["acc2_non0"] == "every label is 0"
    assert set(found.values) | set(found.undefined) == set(METRICS_OF_CUTS["sign"])


@pytest.mark.parametrize("cuts", sorted(METRICS_OF_CUTS))
def test_every_rule_gives_just_the_metrics_that_it_names(cuts):
    generator = np.random.default_rng(0)
    truth, guess = generator.uniform(-1, 1, 50), generator.uniform(-1, 1, 50)
    found = regression_scores(truth, guess, cuts)
    assert tuple(found.values) == METRICS_OF_CUTS[cuts]
    assert not found.undefined


@pytest.mark.parametrize(
    ("truth", "guess", "words"),
    [
        ([], [], "empty test part"),
        ([1.0, float("nan")], [0.0, 1.0], "finite"),
        ([1.0, 2.0], [0.0, float("inf")], "finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(truth, guess, words):
    with pytest.raises(ValueError, match=words):
        regression_scores(np.array(truth, dtype=float), np.array(guess, dtype=float), "mosi")
