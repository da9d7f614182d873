"""Intervals over repeated splits, and what "beats" means.

Ten random splits of one sample are no ten samples: their training parts overlap, so the scores
move together and the usual t interval is too narrow (Nadeau and Bengio 2003, "Inference for the
Generalization Error", Machine Learning 52). Their corrected variance multiplies the variance over
J splits by ``1/J + n_test / n_learn`` instead of ``1/J``. Here ``n_learn`` counts the training and
the validation part, because the learner, selection included, sees both. The corrected interval
decides; the uncorrected one is kept beside it so that a reader can see what overlap costs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

MIN_SPLITS_FOR_A_VERDICT = 10
MIN_GROUPS_FOR_A_VERDICT = 5
MIN_SEEDS_FOR_A_VERDICT = 5
"""Different training draws, where a set's authors fixed the parts and nothing else differs."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One quantity over all splits."""

    mean: float
    sd: float | None
    """Sample standard deviation over splits; None with one split."""
    interval: Interval | None
    """95 % t interval of the mean with the Nadeau-Bengio variance, None with one split; or of the
    bootstrap over the groups of a fixed test part."""
    interval_uncorrected: Interval | None
    """The same as if the splits were independent, which they are not: too narrow. None of the
    bootstrap."""
    per_split: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Paired difference ``first - second`` over the same splits."""

    difference: Summary
    beats: bool | None
    """True when the corrected 95 % interval lies above zero; None when no verdict is possible."""
    reason: str
    """One sentence that says why the verdict is what it is."""


def summary_from_json(record: Mapping[str, Any]) -> Summary:
    """A summary as a report holds it."""
    intervals = {
        name: Interval(**record[name]) if record[name] else None
        for name in ("interval", "interval_uncorrected")
    }
    return Summary(
        mean=record["mean"], sd=record["sd"], per_split=tuple(record["per_split"]), **intervals
    )


def comparison_from_json(record: Mapping[str, Any]) -> Comparison:
    """A comparison as a report holds it."""
    difference = summary_from_json(record["difference"])
    return Comparison(difference=difference, beats=record["beats"], reason=record["reason"])


def summarise(values: Sequence[float], test_share: float) -> Summary:
    """Mean, spread and intervals of a score over splits.

    Args:
        values: One value for each split.
        test_share: ``n_test / n_learn``, the size of a test part over that of the rest.

    Raises:
        ValueError: No value, or a value that is not finite.
    """
    if len(values) == 0 or not all(math.isfinite(value) for value in values):
        raise ValueError(f"need finite values to summarise, got {list(values)}")
    mean = float(np.mean(values))
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Summary(
        mean=mean,
        sd=sd,
        interval=_t_interval(mean, sd, len(values), test_share),
        interval_uncorrected=_t_interval(mean, sd, len(values), 0.0),
        per_split=tuple(float(value) for value in values),
    )


def summarise_draws(values: Sequence[float], draws: Float[np.ndarray, "draw"]) -> Summary:
    """A score over seeds on one fixed test part: its interval comes from resampled test groups.

    Args:
        values: One value for each seed.
        draws: Mean over seeds on each resample; NaN where a resample has no value.

    Raises:
        ValueError: No value, a value that is not finite, or no finite draw.
    """
    plain = summarise(values, 0.0)
    if not np.isfinite(draws).any():
        raise ValueError("no resample of the test part has a value")
    low, high = np.nanpercentile(draws, (2.5, 97.5))
    return replace(
        plain, interval=Interval(low=float(low), high=float(high)), interval_uncorrected=None
    )


def compare_draws(
    differences: Sequence[float],
    draws: Float[np.ndarray, "draw"],
    num_different: int,
    num_groups: int,
) -> Comparison:
    """Does the first beat the second on one fixed test part?

    Args:
        differences: First minus second for each seed.
        draws: Mean difference over seeds on each resample of the test part's groups.
        num_different: Training draws that differ: equal fits are one fit.
        num_groups: Of the test part; a bootstrap over very few is far too narrow.
    """
    difference = summarise_draws(differences, draws)
    if num_different < MIN_SEEDS_FOR_A_VERDICT:
        reason = (
            f"no verdict: {num_different} different training draws among {len(differences)} seeds, "
            f"at least {MIN_SEEDS_FOR_A_VERDICT} needed (--splits.num-seeds, --splits.train-share)"
        )
        return Comparison(difference=difference, beats=None, reason=reason)
    if num_groups < MIN_GROUPS_FOR_A_VERDICT:
        reason = (
            f"no verdict: the test part has {num_groups} groups, at least "
            f"{MIN_GROUPS_FOR_A_VERDICT} are needed for an interval"
        )
        return Comparison(difference=difference, beats=None, reason=reason)
    return _judge(difference, "the bootstrapped 95 % interval")


def compare(first: Sequence[float], second: Sequence[float], test_share: float) -> Comparison:
    """Does ``first`` beat ``second`` on the same splits?

    Raises:
        ValueError: The two differ in their number of splits.
    """
    if len(first) != len(second):
        raise ValueError(f"cannot pair {len(first)} splits with {len(second)}")
    pairs = zip(first, second, strict=True)
    difference = summarise([one - other for one, other in pairs], test_share)
    count = len(first)
    if difference.interval is None or count < MIN_SPLITS_FOR_A_VERDICT:
        reason = f"no verdict: {count} splits, at least {MIN_SPLITS_FOR_A_VERDICT} are needed"
        return Comparison(difference=difference, beats=None, reason=reason)
    return _judge(difference, "the corrected 95 % interval")


def _judge(difference: Summary, name: str) -> Comparison:
    interval = difference.interval
    assert interval is not None
    span = f"{name} [{interval.low:+.4f}, {interval.high:+.4f}]"
    if interval.low > 0.0:
        return Comparison(difference=difference, beats=True, reason=f"{span} lies above zero")
    place = "lies below zero" if interval.high < 0.0 else "holds zero"
    return Comparison(difference=difference, beats=False, reason=f"{span} {place}")


def _t_interval(mean: float, sd: float | None, count: int, test_share: float) -> Interval | None:
    if sd is None:
        return None
    half = float(stats.t.ppf(0.975, count - 1)) * sd * math.sqrt(1.0 / count + test_share)
    return Interval(low=mean - half, high=mean + half)
