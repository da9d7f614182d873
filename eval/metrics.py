"""Classification scores over a fixed label set, equal to scikit-learn's definitions.

A class of the label set that a test part does not hold counts with an F1 of 0 in the macro
average (the label set is the task's, not the split's); the report names such classes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

Labels = Int64[np.ndarray, "sample"]

METRICS: tuple[str, ...] = ("macro_f1", "accuracy", "balanced_accuracy", "weighted_f1")


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


def _f1_per_class(confusion: Int64[np.ndarray, "class class"]) -> Float[np.ndarray, "class"]:
    """``2 TP / (2 TP + FP + FN)``; 0 for a class that is neither true nor predicted."""
    hits = np.diag(confusion)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)  # 2 TP + FP + FN
    return np.where(total > 0, 2.0 * hits / np.maximum(total, 1), 0.0)
