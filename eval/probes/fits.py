"""Probes of one representation over all splits, with the votes that late fusion asks for.

The test part of a split is read here, once, after the fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from threadpoolctl import threadpool_limits

from eval.metrics import calibration_error
from eval.probes.late_fusion import Ballot
from eval.probes.linear_probe import FittedProbe, Predictions, SplitProblem, SplitResult
from eval.probes.regression import Problem


@dataclass(frozen=True, kw_only=True)
class Fit(SplitResult):
    """One probe on one split: its test scores, and its votes for late fusion."""

    ballot: Ballot

    def without_votes(self) -> SplitResult:
        """The result alone: the votes of many splits take memory."""
        return SplitResult(**_fields_of(self))


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What validation chose of a probe, and how good it was there."""

    mark: float
    """See `eval.probes.regression.selection_mark`."""
    inverse_regularisation: float | None = None
    num_unconverged: int = 0
    chosen: Mapping[str, int | float] = field(default_factory=dict)
    """What else was chosen, by name."""


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """One representation of one backbone, over all splits; what a worker process is given."""

    features: Float32[np.ndarray, "sample dim"]
    problems: Sequence[Problem]
    learned: Sequence[Predictions] | None = None
    """Labels to train and select on, by split, in place of the true ones (the shuffled floor)."""


def fit_all_splits(job: FitJob) -> list[Fit]:
    """A probe for each split, on one thread: many small fits lose by more.

    Raises:
        ValueError: See `eval.probes.linear_probe.fit_split` and
            `eval.probes.regression.RegressionProblem.fit`.
    """
    features = job.features.astype(np.float64)  # float32 stalls L-BFGS before its tolerance
    learned = job.learned or [problem.labels for problem in job.problems]
    with threadpool_limits(1):
        return [
            _fit_one(features, problem, labels)
            for problem, labels in zip(job.problems, learned, strict=True)
        ]


def _fit_one(features: np.ndarray, problem: Problem, learned: Predictions) -> Fit:
    fitted, split = problem.fit(features, learned), problem.split
    has = np.zeros(len(features), dtype=bool)
    has[np.concatenate([split.validation, split.test])] = True
    votes = np.zeros((len(features), problem.num_votes))
    votes[has] = fitted.votes(features[has])
    classes = isinstance(fitted, FittedProbe)
    selected = Selected(
        mark=fitted.validation_macro_f1 if classes else -fitted.validation_mae,
        inverse_regularisation=fitted.inverse_regularisation,
        num_unconverged=fitted.num_unconverged,
    )
    result = read_test(problem, votes[split.test], selected)
    return Fit(**_fields_of(result), ballot=Ballot(votes=votes, has=has))


def _fields_of(result: SplitResult) -> dict[str, Any]:
    return {entry.name: getattr(result, entry.name) for entry in fields(SplitResult)}


def read_test(
    problem: Problem, votes: Float[np.ndarray, "test vote"], selected: Selected
) -> SplitResult:
    """Score a probe's votes on the test part; done once, after validation has chosen.

    Args:
        problem: Labels and the split.
        votes: Of the test part: class probabilities, or one column of numbers.
        selected: How the probe came about.
    """
    test = problem.split.test
    predicted = problem.decide(votes)
    classes = isinstance(problem, SplitProblem)
    return SplitResult(
        scores=problem.score(test, predicted),
        inverse_regularisation=selected.inverse_regularisation,
        num_unconverged=selected.num_unconverged,
        chosen=selected.chosen,
        validation_macro_f1=selected.mark if classes else None,
        validation_mae=None if classes else -selected.mark,
        predicted=predicted,
        calibration_error=calibration_error(problem.labels[test], votes) if classes else None,
    )
