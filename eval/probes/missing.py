"""What a missing modality costs: the fusion of every subset, and fused against its best part.

Scores must come from the same samples (``rows="shared"`` of `eval.probes.probe.ProbeConfig`), else
a subset would be compared on other samples than the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_sharding.schema import MODALITIES
from eval.comparison import Summary, summarise
from eval.probes.arm_comparison import ArmComparison, BySeed, average_seeds, compare_arms
from eval.representations import FUSED_SUBSETS, modalities_of

WANTED: tuple[str, ...] = (*MODALITIES, *FUSED_SUBSETS)
"""Representations to probe for this table."""


@dataclass(frozen=True, kw_only=True)
class MissingModality:
    """One arm, fused from all that the task has, from less, and its encoders alone."""

    whole: str
    """The fusion of all modalities that the task has."""
    scores: Mapping[str, Summary]
    """By representation: encoders alone, then fused subsets."""
    best_part: str
    """The part with the best mean on test: chosen in its favour."""
    whole_minus_best: ArmComparison
    beaten: bool | None
    """The best part beats the whole: the plain paired interval lies below zero."""
    losses: Mapping[str, ArmComparison]
    """By fused subset: whole minus subset, what it costs to lack the rest."""


def missing_modality(scores: Mapping[str, BySeed], test_share: float) -> MissingModality:
    """The comparison for one arm.

    Args:
        scores: By representation, [seed][split]; those of `WANTED` that the task can give.
        test_share: ``n_test / n_learn``.

    Raises:
        ValueError: Fewer than two modalities, or a fused subset or an encoder is missing.
    """
    subsets = [name for name in FUSED_SUBSETS if name in scores]
    singles = [name for name in MODALITIES if name in scores]
    if len(singles) < 2 or len(subsets) != 2 ** len(singles) - 1:
        raise ValueError(
            "needs the encoders and every fused subset of two modalities or more, got "
            f"{', '.join(scores)}"
        )
    whole = max(subsets, key=lambda name: len(modalities_of(name)))
    parts = [*singles, *(name for name in subsets if name != whole)]
    means = {name: float(np.mean(average_seeds(scores[name]))) for name in parts}
    best = max(parts, key=lambda name: means[name])
    against = {name: compare_arms(scores[whole], scores[name], test_share) for name in parts}
    reverse = compare_arms(scores[best], scores[whole], test_share)
    return MissingModality(
        whole=whole,
        scores={
            name: summarise(average_seeds(scores[name]), test_share)
            for name in (*singles, *subsets)
        },
        best_part=best,
        whole_minus_best=against[best],
        beaten=reverse.beats,
        losses={name: against[name] for name in subsets if name != whole},
    )
