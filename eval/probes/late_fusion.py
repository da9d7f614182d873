"""Late (decision-level) fusion: per-modality probes vote with their class probabilities.

(Where the label is a number, with the number.)
Each modality's probe is fitted alone, its C chosen on validation. A sample's vote is the weighted
mean over the modalities that it has. Weights are even, or chosen on validation; the test part is
read once, with what was chosen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from eval.metrics import Scores
from eval.probes.linear_probe import Predictions
from eval.probes.regression import Problem, selection_mark
from eval.regression_metrics import RegressionScores

EVEN_VOTE = "late"
"""Its name among the representations of a report."""

NUM_WEIGHT_STEPS = 5
"""Weights are tried in fifths: with three modalities 21 of them."""

Votes = Float[np.ndarray, "sample class"]


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """Votes of one modality's probe on the rows that it was not taught with."""

    votes: Votes
    """Zeros where the modality is missing or the row was trained on."""
    has: Bool[np.ndarray, "sample"]
    """Samples with the modality."""


@dataclass(frozen=True, kw_only=True)
class LateFusion:
    """What the vote reached on one test part."""

    scores: Scores | RegressionScores
    predicted: Predictions
    """Of the test part."""
    weights: Mapping[str, float]
    """By modality; they add up to 1 and are shared out anew where a modality is missing."""


def fuse_late(ballots: Mapping[str, Ballot], problem: Problem) -> LateFusion:
    """Even vote of the modalities, read on test."""
    even = [1.0 / len(ballots)] * len(ballots)
    return _read_test(ballots, problem, even)


def fuse_late_weighted(ballots: Mapping[str, Ballot], problem: Problem) -> LateFusion:
    """Vote whose weights are best on validation; a tie goes to the evener ones.

    By macro-F1, or by the mean absolute error where the label is a number, on what any votes on.
    """
    voted = np.logical_or.reduce([ballot.has for ballot in ballots.values()])
    rows = problem.split.validation[voted[problem.split.validation]]
    candidates = sorted(_weightings(len(ballots)), key=lambda weights: sum(w * w for w in weights))
    marks = [
        selection_mark(problem.score(rows, problem.decide(vote(ballots, weights)[rows])))
        for weights in candidates
    ]
    return _read_test(ballots, problem, candidates[int(np.argmax(marks))])


def vote(ballots: Mapping[str, Ballot], weights: Sequence[float]) -> Votes:
    """Weighted mean of the votes over the modalities that each sample has.

    Where a sample has only modalities of (next to) no weight, they vote evenly.
    """
    has = np.stack([ballot.has for ballot in ballots.values()], axis=1)  # [sample, modality]
    share = has * np.asarray(weights)
    alone = share.sum(axis=1) < 1e-9
    share[alone] = has[alone]
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-9)
    stacked = np.stack([ballot.votes for ballot in ballots.values()], axis=1)
    return np.einsum("sm,smc->sc", share, stacked)


def _read_test(
    ballots: Mapping[str, Ballot], problem: Problem, weights: Sequence[float]
) -> LateFusion:
    rows = problem.split.test
    decided = problem.decide(vote(ballots, weights)[rows])
    return LateFusion(
        scores=problem.score(rows, decided),
        predicted=decided,
        weights=dict(zip(ballots, map(float, weights), strict=True)),
    )


def _weightings(count: int, steps: int = NUM_WEIGHT_STEPS) -> Iterator[tuple[float, ...]]:
    """All shares of ``count`` modalities in steps, and the even one."""
    yield (1.0 / count,) * count

    def parts(left: int, places: int) -> Iterator[tuple[int, ...]]:
        if places == 1:
            yield (left,)
            return
        for first in range(left + 1):
            for rest in parts(left - first, places - 1):
                yield (first, *rest)

    for chosen in parts(steps, count):
        yield tuple(part / steps for part in chosen)
