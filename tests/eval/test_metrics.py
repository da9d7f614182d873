import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from eval.metrics import calibration_error, class_report, confusion_matrix, fallen_on, score


def drawn(num_classes, num_samples, seed):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, num_classes, num_samples)
    guess = np.where(
        generator.random(num_samples) < 0.6, truth, generator.integers(0, num_classes, num_samples)
    )
    return truth.astype(np.int64), guess.astype(np.int64)


@pytest.mark.parametrize(("num_classes", "num_samples"), [(2, 30), (3, 200), (8, 41)])
def test_every_score_equals_scikit_learns(num_classes, num_samples):
    truth, guess = drawn(num_classes, num_samples, seed=num_classes)
    labels = range(num_classes)
    found = score(truth, guess, num_classes)
    f1 = sklearn_metrics.f1_score
    assert found.macro_f1 == pytest.approx(f1(truth, guess, labels=labels, average="macro"))
    assert found.weighted_f1 == pytest.approx(f1(truth, guess, labels=labels, average="weighted"))
    assert found.accuracy == pytest.approx(sklearn_metrics.accuracy_score(truth, guess))
    balanced = sklearn_metrics.balanced_accuracy_score(truth, guess)
    assert found.balanced_accuracy == pytest.approx(balanced)
    expected = sklearn_metrics.confusion_matrix(truth, guess, labels=labels)
    np.testing.assert_array_equal(np.array(found.confusion), expected)


def test_a_class_absent_from_test_counts_as_zero_in_macro_f1():
    truth, guess = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    found = score(truth, guess, num_classes=3)
    assert found.macro_f1 == pytest.approx(2 / 3)
    assert found.balanced_accuracy == 1.0


def test_a_label_outside_the_label_set_is_refused():
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        confusion_matrix(np.array([0, 3]), np.array([0, 1]), 3)


def test_an_empty_test_part_is_refused():
    empty = np.array([], dtype=np.int64)
    with pytest.raises(ValueError, match="empty test part"):
        score(empty, empty, 3)


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60),
)
def test_each_class_has_scikit_learns_precision_recall_and_f1(rows):
    truth, guess = (np.array(column) for column in zip(*rows, strict=True))
    names = ("a", "b", "c", "d")
    found = class_report(score(truth, guess, 4).confusion, names)
    expected = sklearn_metrics.precision_recall_fscore_support(
        truth, guess, labels=range(4), zero_division=0
    )
    for place, own in enumerate(found):
        precision, recall, f1, support = (column[place] for column in expected)
        assert (own.name, own.support) == (names[place], support)
        assert (own.precision or 0.0) == pytest.approx(precision)
        assert (own.recall or 0.0) == pytest.approx(recall)
        assert own.f1 == pytest.approx(f1)
        assert (own.precision is None) == (place not in guess)
        assert (own.recall is None) == (place not in truth)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), num_samples=st.integers(1, 80))
def test_the_calibration_error_is_the_mean_gap_of_confidence_and_accuracy(seed, num_samples):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet((0.5, 0.5, 0.5), num_samples)
    truth = generator.integers(0, 3, num_samples)
    found = calibration_error(truth, probabilities)
    total = 0.0
    for place in range(15):
        inside = [
            row
            for row in range(num_samples)
            if place / 15 < max(probabilities[row]) <= (place + 1) / 15
        ]
        if inside:
            right = np.mean([np.argmax(probabilities[row]) == truth[row] for row in inside])
            sure = np.mean([max(probabilities[row]) for row in inside])
            total += len(inside) / num_samples * abs(right - sure)
    assert found == pytest.approx(total, abs=1e-9)


def test_sure_and_always_right_is_calibrated_and_sure_and_always_wrong_is_not():
    sure = np.eye(2)[[0, 1, 0, 1]]
    assert calibration_error(np.array([0, 1, 0, 1]), sure) == 0.0
    assert calibration_error(np.array([1, 0, 1, 0]), sure) == 1.0


def test_predictions_that_fall_on_one_class_are_noticed():
    assert fallen_on([[96, 0, 0], [2, 0, 0], [1, 1, 0]]) == (0, 0.99)
    assert fallen_on([[60, 5, 5], [2, 8, 0], [1, 1, 18]]) is None
