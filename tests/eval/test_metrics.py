import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from eval.metrics import confusion_matrix, score


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
