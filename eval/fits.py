"""Probes of one representation over all splits, with the votes that late fusion asks for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from threadpoolctl import threadpool_limits

from eval.late_fusion import Ballot
from eval.linear_probe import Labels, SplitProblem, SplitResult, fit_split
from eval.metrics import score


@dataclass(frozen=True, kw_only=True)
class Fit(SplitResult):
    """One probe on one split: its test scores, and its votes for late fusion."""

    ballot: Ballot

    def without_votes(self) -> SplitResult:
        """The result alone: the votes of many splits take memory."""
        return SplitResult(
            scores=self.scores,
            inverse_regularisation=self.inverse_regularisation,
            num_unconverged=self.num_unconverged,
            validation_macro_f1=self.validation_macro_f1,
        )


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """One representation of one backbone, over all splits; what a worker process is given."""

    features: Float32[np.ndarray, "sample dim"]
    problems: Sequence[SplitProblem]
    learned: Sequence[Labels] | None = None
    """Labels to train and select on, by split, in place of the true ones (the shuffled floor)."""


def fit_all_splits(job: FitJob) -> list[Fit]:
    """A probe for each split, on one thread: many small fits lose by more.

    Raises:
        ValueError: See `eval.linear_probe.probe_split`.
    """
    features = job.features.astype(np.float64)  # float32 stalls L-BFGS before its tolerance
    learned = job.learned or [problem.labels for problem in job.problems]
    with threadpool_limits(1):
        return [
            _fit_one(features, problem, labels)
            for problem, labels in zip(job.problems, learned, strict=True)
        ]


def _fit_one(features: np.ndarray, problem: SplitProblem, learned: Labels) -> Fit:
    fitted, split = fit_split(features, problem, learned), problem.split
    has = np.zeros(len(features), dtype=bool)
    has[np.concatenate([split.validation, split.test])] = True
    probabilities = np.zeros((len(features), problem.num_classes))
    probabilities[has] = fitted.probabilities(features[has])
    predicted = np.argmax(probabilities[split.test], axis=1).astype(np.int64)
    return Fit(
        scores=score(problem.labels[split.test], predicted, problem.num_classes),
        ballot=Ballot(probabilities=probabilities, has=has),
        inverse_regularisation=fitted.inverse_regularisation,
        num_unconverged=fitted.num_unconverged,
        validation_macro_f1=fitted.validation_macro_f1,
    )
