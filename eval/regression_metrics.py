"""Scores of predicted sentiment intensities, as the field defines them.

CMU-MOSI and CMU-MOSEI (labels in [-3, 3]) and CH-SIMS (labels in [-1, 1]) are cut into classes by
different rules, so a task's card names its rule (`ClassCuts`). Checked against the evaluation code
of the sets' users, MMSA (https://github.com/thuiar/MMSA, ``metricsTop.py``).
A quantity that has no value is named with the reason; it is never NaN.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from eval.metrics import score

Values = Float[np.ndarray, "sample"]

ClassCuts = Literal["mosi", "sims", "sign", "none"]
"""``mosi``: 3, 5 and 7 classes by rounding half to even after clipping to 1, 2 and 3; ``sims``: 2,
3 and 5 classes with bounds at 0, 0.1 and 0.7, closed above; ``sign``: the two classes of the sign
alone; ``none``: errors alone, for a range that has no zero in its midst. All but the last give both
two-class accuracies: with the zeros (``has0``) and without (``non0``)."""

CUT_RULES: Mapping[str, str] = {
    "mosi": "has0: below 0 against 0 and above; non0: samples labelled 0 left out, below against "
    "above 0; acc3, acc5, acc7: rounded half to even after clipping to 1, 2, 3; F1 weighted",
    "sims": "has0: below 0 against 0 and above; non0: samples labelled 0 left out, below against "
    "above 0; acc2_positive: 0 and below against above 0; acc3, acc5: clipped to [-1, 1] and cut "
    "at -0.1, 0.1 and at -0.7, -0.1, 0.1, 0.7, closed above; F1 weighted",
    "sign": "has0: below 0 against 0 and above; non0: samples labelled 0 left out, below against "
    "above 0; F1 weighted",
    "none": "errors alone: the range has no zero in its midst",
}

SIMS_BOUNDS: Mapping[str, tuple[float, ...]] = {"acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}
MOSI_CLIPS: Mapping[str, int] = {"acc3": 1, "acc5": 2, "acc7": 3}

_SIGN = ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0")
METRICS_OF_CUTS: Mapping[str, tuple[str, ...]] = {
    "mosi": ("mae", "pearson", *_SIGN, "acc3", "acc5", "acc7"),
    "sims": ("mae", "pearson", *_SIGN, "acc2_positive", "f1_positive", "acc3", "acc5"),
    "sign": ("mae", "pearson", *_SIGN),
    "none": ("mae", "pearson"),
}

MAY_BE_UNDEFINED: tuple[str, ...] = ("pearson", "acc2_non0", "f1_non0")
LOWER_IS_BETTER: tuple[str, ...] = ("mae",)
NO_SHARES: tuple[str, ...] = ("mae", "pearson")
"""What is told as a number in the labels' unit or in [-1, 1], and not in percent."""


@dataclass(frozen=True, kw_only=True)
class RegressionScores:
    """What one predictor reached on one test part."""

    values: Mapping[str, float]
    """By metric: those of the card's cuts that have a value."""
    undefined: Mapping[str, str]
    """The others, each with its reason."""


def regression_scores(truth: Values, predicted: Values, cuts: ClassCuts) -> RegressionScores:
    """All scores of one test part.

    Raises:
        ValueError: No sample, lengths that differ, or values that are not finite.
    """
    _refuse(truth, predicted)
    values = {"mae": float(np.abs(predicted - truth).mean())}
    undefined: dict[str, str] = {}
    correlation = pearson(truth, predicted)
    if isinstance(correlation, str):
        undefined["pearson"] = correlation
    else:
        values["pearson"] = correlation
    if cuts != "none":
        values |= _two_classes(truth >= 0.0, predicted >= 0.0, "has0")
        kept = truth != 0.0
        if kept.any():
            values |= _two_classes(truth[kept] > 0.0, predicted[kept] > 0.0, "non0")
        else:
            undefined |= dict.fromkeys(("acc2_non0", "f1_non0"), "every label is 0")
    if cuts == "mosi":
        for name, bound in MOSI_CLIPS.items():
            same = _rounded(truth, bound) == _rounded(predicted, bound)
            values[name] = float(same.mean())
    if cuts == "sims":
        values |= _two_classes(truth > 0.0, predicted > 0.0, "positive")
        for name, bounds in SIMS_BOUNDS.items():
            values[name] = float((_cut(truth, bounds) == _cut(predicted, bounds)).mean())
    ordered = {name: values[name] for name in METRICS_OF_CUTS[cuts] if name in values}
    return RegressionScores(values=ordered, undefined=undefined)


def pearson(truth: Values, predicted: Values) -> float | str:
    """Pearson's correlation in [-1, 1], or the reason why there is none."""
    for what, values in (("labels", truth), ("predictions", predicted)):
        if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
            return f"constant {what}: a correlation is not defined"
    one, other = truth - truth.mean(), predicted - predicted.mean()
    return float(np.clip(one @ other / np.sqrt((one @ one) * (other @ other)), -1.0, 1.0))


def _refuse(truth: Values, predicted: Values) -> None:
    if len(truth) == 0:
        raise ValueError("cannot score an empty test part")
    if truth.shape != predicted.shape:
        raise ValueError(f"{len(truth)} true labels against {len(predicted)} predictions")
    if not (np.isfinite(truth).all() and np.isfinite(predicted).all()):
        raise ValueError("labels and predictions must be finite")


def _two_classes(truth: np.ndarray, predicted: np.ndarray, name: str) -> dict[str, float]:
    """Accuracy and weighted F1 of two classes."""
    found = score(truth.astype(np.int64), predicted.astype(np.int64), 2)
    return {f"acc2_{name}": found.accuracy, f"f1_{name}": found.weighted_f1}


def _rounded(values: Values, bound: int) -> Values:
    return np.round(np.clip(values, -bound, bound))  # numpy rounds half to even


def _cut(values: Values, bounds: tuple[float, ...]) -> Int64[np.ndarray, "sample"]:
    """Class of each value; an interval holds its upper bound."""
    clipped = np.clip(values, -1.0, 1.0)
    return np.searchsorted(np.array(bounds), clipped, side="left").astype(np.int64)
