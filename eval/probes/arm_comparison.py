"""Arms of a table against each other: pretraining seeds times splits.

An arm pretrained several times has one score for each seed and split. Scores are averaged over
its seeds, split by split, and the arms are then paired over splits. Two intervals are given: the
plain paired t interval over splits, by which one arm "beats" another here, and the wider one that
allows for overlapping splits (see `eval.comparison`). Neither holds the spread over pretraining
seeds, which is therefore told beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.comparison import MIN_SPLITS_FOR_A_VERDICT, Interval, Summary, summarise

BySeed = Sequence[Sequence[float]]
"""Scores of one arm: [seed][split]."""


@dataclass(frozen=True, kw_only=True)
class ArmComparison:
    """Paired difference of two arms, first minus second, over the same splits."""

    difference: Summary
    """Of scores averaged over seeds; ``interval`` is the corrected one, ``interval_uncorrected``
    the plain paired t interval."""
    beats: bool | None
    """The plain interval lies above zero; None with fewer than ten splits."""
    beats_corrected: bool | None
    """The corrected interval lies above zero."""
    seed_sds: tuple[float | None, float | None]
    """Deviation, over pretraining seeds, of each arm's mean over splits; None with one seed."""


def compare_arms(first: BySeed, second: BySeed, test_share: float) -> ArmComparison:
    """Does the first arm beat the second on the same splits?

    Args:
        first: Scores by seed and split; one seed is enough.
        second: The same; its number of seeds may differ.
        test_share: ``n_test / n_learn``, as for `eval.comparison.summarise`.

    Raises:
        ValueError: No score, or the numbers of splits differ.
    """
    ours, theirs = average_seeds(first), average_seeds(second)
    if len(ours) != len(theirs):
        raise ValueError(f"cannot pair {len(ours)} splits with {len(theirs)}")
    pairs = zip(ours, theirs, strict=True)
    difference = summarise([one - other for one, other in pairs], test_share)
    return ArmComparison(
        difference=difference,
        beats=_above_zero(difference.interval_uncorrected, len(ours)),
        beats_corrected=_above_zero(difference.interval, len(ours)),
        seed_sds=(_seed_sd(first), _seed_sd(second)),
    )


def average_seeds(scores: BySeed) -> tuple[float, ...]:
    """Mean over seeds, split by split.

    Raises:
        ValueError: No seed, or seeds with different numbers of splits.
    """
    counts = sorted({len(per_split) for per_split in scores})
    if len(counts) != 1 or counts[0] == 0:
        raise ValueError(f"every seed needs a score for each of the splits, got {counts} of them")
    return tuple(float(value) for value in np.mean(scores, axis=0))


def _seed_sd(scores: BySeed) -> float | None:
    return float(np.std(np.mean(scores, axis=1), ddof=1)) if len(scores) > 1 else None


def _above_zero(interval: Interval | None, num_splits: int) -> bool | None:
    if interval is None or num_splits < MIN_SPLITS_FOR_A_VERDICT:
        return None
    return interval.low > 0.0
