"""Probes of one representation over all splits, with the votes that late fusion asks for.

The test part of a split is read here, once, after the fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32
from threadpoolctl import threadpool_limits

from eval.late_fusion import Ballot
from eval.linear_probe import FittedProbe, Predictions, SplitResult
from eval.metrics import calibration_error
from eval.regression import Problem


@dataclass(frozen=True, kw_only=True)
class Fit(SplitResult):
    """One probe on one split: its test scores, and its votes for late fusion."""

    ballot: Ballot

    def without_votes(self) -> SplitResult:
        """The result alone: the votes of many splits take memory."""
        kept = {entry.name: getattr(self, entry.name) for entry in fields(SplitResult)}
        return SplitResult(**kept)


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
        ValueError: See `eval.linear_probe.fit_split` and `eval.regression.RegressionProblem.fit`.
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
    predicted = problem.decide(votes[split.test])
    own, truth = votes[split.test], problem.labels[split.test]
    classes = isinstance(fitted, FittedProbe)
    return Fit(
        scores=problem.score(split.test, predicted),
        ballot=Ballot(votes=votes, has=has),
        inverse_regularisation=fitted.inverse_regularisation,
        num_unconverged=fitted.num_unconverged,
        validation_macro_f1=fitted.validation_macro_f1 if isinstance(fitted, FittedProbe) else None,
        validation_mae=None if isinstance(fitted, FittedProbe) else fitted.validation_mae,
        predicted=predicted,
        calibration_error=calibration_error(truth, own) if classes else None,
    )
