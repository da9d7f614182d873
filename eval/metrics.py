"""Classification scores over a fixed label set, equal to scikit-learn's definitions.

A class of the label set that a test part does not hold counts with an F1 of 0 in the macro
average (the label set is the task's, not the split's); the report names such classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

Labels = Int64[np.ndarray, "sample"]

METRICS: tuple[str, ...] = ("macro_f1", "accuracy", "balanced_accuracy", "weighted_f1")

CALIBRATION_BINS = 15
"""Bins of equal width of the calibration error, as Guo et al. 2017 have it."""

ONE_SIDED_SHARE = 0.95
"""From this share of all predictions on one class a classifier counts as fallen on it."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one classifier reached on one test part; every score lies in [0, 1]."""

    macro_f1: float
    accuracy: float
    balanced_accuracy: float
    """Mean recall over the classes that the test part holds."""
    weighted_f1: float
    confusion: tuple[tuple[int, ...], ...]
    """Counts; a row for each true class, a column for each predicted class."""

    @property
    def values(self) -> Mapping[str, float]:
        """By metric."""
        return {name: getattr(self, name) for name in METRICS}

    @property
    def undefined(self) -> Mapping[str, str]:
        """By metric, why it has no value: over a fixed label set all have one."""
        return {}


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class of the label set against the others."""

    name: str
    precision: float | None
    """None where the class was never predicted: there is nothing to be a share of."""
    recall: float | None
    """None where no sample is of the class."""
    f1: float
    """0 where the class is neither true nor predicted."""
    support: int
    """Samples of the class."""


def added_confusion(scores: Sequence[Scores]) -> tuple[tuple[int, ...], ...]:
    """Counts of several test parts together; empty of none."""
    if not scores:
        return ()
    added = np.sum([found.confusion for found in scores], axis=0)
    return tuple(tuple(int(count) for count in row) for row in added)


def confusion_matrix(
    truth: Labels, predicted: Labels, num_classes: int
) -> Int64[np.ndarray, "class class"]:
    """Count (true, predicted) pairs.

    Raises:
        ValueError: A label lies outside ``0 .. num_classes - 1``, or the lengths differ.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"{len(truth)} true labels against {len(predicted)} predictions")
    both = np.concatenate([truth, predicted])
    if both.size and (both.min() < 0 or both.max() >= num_classes):
        raise ValueError(f"labels must lie in 0..{num_classes - 1}, got {both.min()}..{both.max()}")
    flat = np.bincount(truth * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes).astype(np.int64)


def score(truth: Labels, predicted: Labels, num_classes: int) -> Scores:
    """All scores of one test part.

    Raises:
        ValueError: The test part is empty, or a label is out of range.
    """
    if len(truth) == 0:
        raise ValueError("cannot score an empty test part")
    confusion = confusion_matrix(truth, predicted, num_classes)
    support = confusion.sum(axis=1)  # [class]
    f1 = _f1_per_class(confusion)
    recall = np.diag(confusion)[support > 0] / support[support > 0]
    return Scores(
        macro_f1=float(f1.mean()),
        accuracy=float(np.trace(confusion) / len(truth)),
        balanced_accuracy=float(recall.mean()),
        weighted_f1=float((f1 * support).sum() / len(truth)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def class_report(
    confusion: Sequence[Sequence[int]], classes: Sequence[str]
) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each class.

    Args:
        confusion: Counts; a row for each true class, a column for each predicted class.
        classes: Names, in the order of the rows.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    f1, hits = _f1_per_class(counts), np.diag(counts)
    support, predicted = counts.sum(axis=1), counts.sum(axis=0)
    return tuple(
        ClassScore(
            name=name,
            precision=float(hits[place] / predicted[place]) if predicted[place] else None,
            recall=float(hits[place] / support[place]) if support[place] else None,
            f1=float(f1[place]),
            support=int(support[place]),
        )
        for place, name in enumerate(classes)
    )


def fallen_on(confusion: Sequence[Sequence[int]]) -> tuple[int, float] | None:
    """The class that nearly all predictions fall on, and their share; None where they do not.

    A classifier that learned nothing from an unbalanced set hides behind its accuracy so.
    """
    predicted = np.asarray(confusion, dtype=np.int64).sum(axis=0)
    place = int(np.argmax(predicted))
    share = float(predicted[place] / max(int(predicted.sum()), 1))
    return (place, share) if share >= ONE_SIDED_SHARE else None


def calibration_error(truth: Labels, probabilities: Float[np.ndarray, "sample class"]) -> float:
    """Expected calibration error, in [0, 1]: how far confidence and accuracy lie apart.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599,
    equation 3: predictions are binned by the probability of the predicted class, bins are open
    below and closed above, and weigh by their samples.

    Raises:
        ValueError: No sample, or as many probabilities as samples are missing.
    """
    if len(truth) == 0 or len(truth) != len(probabilities):
        raise ValueError(f"{len(truth)} true labels against {len(probabilities)} predictions")
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, None)
    gaps = np.bincount(bins, weights=right.astype(np.float64) - confidence)
    return float(np.abs(gaps).sum() / len(truth))


def _f1_per_class(confusion: Int64[np.ndarray, "class class"]) -> Float[np.ndarray, "class"]:
    """``2 TP / (2 TP + FP + FN)``; 0 for a class that is neither true nor predicted."""
    hits = np.diag(confusion)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)  # 2 TP + FP + FN
    return np.where(total > 0, 2.0 * hits / np.maximum(total, 1), 0.0)
