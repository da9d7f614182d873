"""Linear probe: logistic regression on standardised frozen features.

The order of the hands: `fit_probe` is given the training and the validation part and nothing
else, so nothing can be selected or normalised on test; `eval.probes.fits` reads test, once.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64
from scipy.linalg import LinAlgWarning
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from eval.metrics import Scores, score
from eval.regression_metrics import RegressionScores
from eval.splits import Split, refuse_leakage

LARGEST_HESSIAN = 1_500
"""Rows of a Hessian that Newton's method may factor; at 2,700 it took minutes a fit."""

Matrix = Float[np.ndarray, "row dim"]
Labels = Int64[np.ndarray, "row"]
Predictions = Int64[np.ndarray, "row"] | Float[np.ndarray, "row"]
Train = tuple[Float[np.ndarray, "train dim"], Int64[np.ndarray, "train"]]
Validation = tuple[Float[np.ndarray, "validation dim"], Int64[np.ndarray, "validation"]]


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig:
    """The grid that every backbone and every floor is given alike."""

    inverse_regularisation: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    """Values of scikit-learn's C (1 / lambda), selected by macro-F1 on validation."""
    max_iterations: int = 500
    """Bound of the solver for each C; reaching it is reported."""

    def __post_init__(self) -> None:
        grid = self.inverse_regularisation
        if not grid or not all(0.0 < value < float("inf") for value in grid):
            raise ValueError(f"linear.inverse_regularisation must be positive numbers, got {grid}")
        if list(grid) != sorted(set(grid)):
            raise ValueError(f"linear.inverse_regularisation must ascend, got {grid}")
        if self.max_iterations < 1:
            raise ValueError(f"linear.max_iterations must be >= 1, got {self.max_iterations}")


@dataclass(frozen=True, kw_only=True)
class FittedProbe:
    """A scaler and a classifier that have seen no test row."""

    scaler: StandardScaler
    weight: Float[np.ndarray, "class dim"]
    bias: Float[np.ndarray, "class"]
    inverse_regularisation: float
    """The C that validation chose."""
    validation_macro_f1: float
    """On validation, with that C."""
    num_unconverged: int
    """Fits of the grid that stopped at `max_iterations`."""

    def predict(self, features: Matrix) -> Labels:
        """Class of each row."""
        return np.argmax(self._logits(features), axis=1).astype(np.int64)

    def votes(self, features: Matrix) -> Float[np.ndarray, "row class"]:
        """Class probabilities: softmax of the classifier's logits."""
        return np.asarray(softmax(self._logits(features), axis=1))

    def _logits(self, features: Matrix) -> Float[np.ndarray, "row class"]:
        return np.asarray(self.scaler.transform(features)) @ self.weight.T + self.bias


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """What one split gave."""

    scores: Scores | RegressionScores
    inverse_regularisation: float | None
    """The C that validation chose; None where nothing was fitted."""
    num_unconverged: int
    chosen: Mapping[str, int | float] = field(default_factory=dict)
    """What else validation chose, by name."""
    validation_macro_f1: float | None = None
    """On validation, with that C; None where it was not kept."""
    validation_mae: float | None = None
    """The same of a regression, whose penalty is chosen by it."""
    predicted: Predictions | None = None
    """Of the test part, in its order; None where they were not kept."""
    calibration_error: float | None = None
    """On test; None where there are no probabilities."""


@dataclass(frozen=True, kw_only=True)
class SplitProblem:
    """One split of a labelled set: all that a floor or a probe may know beside its features."""

    labels: Labels
    groups: Sequence[str]
    """Group of each row; none may lie in two parts of the split."""
    split: Split
    num_classes: int
    """Size of the fixed label set."""
    config: LinearProbeConfig

    @property
    def num_votes(self) -> int:
        """Columns of a probe's votes: a probability for each class."""
        return self.num_classes

    def fit(self, features: Matrix, learned: Labels | None) -> FittedProbe:
        """As `fit_split`."""
        return fit_split(features, self, learned)

    def decide(self, votes: Float[np.ndarray, "row class"]) -> Labels:
        """The class with the highest vote; of equals the first."""
        return np.argmax(votes, axis=1).astype(np.int64)

    def score(self, rows: Labels, predicted: Labels) -> Scores:
        """Predictions of some rows against their labels."""
        return score(self.labels[rows], predicted, self.num_classes)

    def constant(self) -> Labels:
        """Predictions of the test part without any feature: the training part's commonest class.

        The lower place wins a tie.
        """
        counts = np.bincount(self.labels[self.split.train], minlength=self.num_classes)
        return np.full(len(self.split.test), int(np.argmax(counts)), dtype=np.int64)


def fit_probe(
    train: Train,
    validation: Validation,
    num_classes: int,
    config: LinearProbeConfig,
) -> FittedProbe:
    """Fit the grid on the training part and keep the C that validation likes best.

    The scaler is fitted on the training part. A tie goes to the stronger regularisation.

    Raises:
        ValueError: A class has no training row.
    """
    refuse_absent_classes(train[1], num_classes)
    scaler = StandardScaler().fit(train[0])
    scaled = np.asarray(scaler.transform(train[0]))
    rotation = _row_space(scaled)  # [dim, rank]
    path = regularisation_path(scaled @ rotation, train[1], config)
    known = np.asarray(scaler.transform(validation[0])) @ rotation
    marks = [score(validation[1], predict(model, known), num_classes).macro_f1 for model in path]
    best = int(np.argmax(marks))  # the first of equals
    weight, bias = _as_multinomial(path[best])
    return FittedProbe(
        scaler=scaler,
        weight=weight @ rotation.T,
        bias=bias,
        inverse_regularisation=config.inverse_regularisation[best],
        validation_macro_f1=float(marks[best]),
        num_unconverged=count_unconverged(path),
    )


def fit_split(
    features: Matrix, problem: SplitProblem, learned: Labels | None = None
) -> FittedProbe:
    """Fit on the training and validation part of a split.

    Args:
        features: All rows.
        problem: Labels, groups and the split.
        learned: Labels to train and select on in place of the true ones (the shuffled floor).

    Raises:
        ValueError: A group in two parts, an empty part, or a class without a training row.
    """
    split, taught = problem.split, problem.labels if learned is None else learned
    refuse_leakage(split, problem.groups)
    return fit_probe(
        (features[split.train], taught[split.train]),
        (features[split.validation], taught[split.validation]),
        problem.num_classes,
        problem.config,
    )


def regularisation_path(
    features: Matrix | csr_matrix, labels: Labels, config: LinearProbeConfig
) -> list[LogisticRegression]:
    """One classifier for each C, ascending, each started from the one before."""
    path: list[LogisticRegression] = []
    solver = _solver(features, len(set(labels.tolist())))
    for strength in config.inverse_regularisation:
        model = LogisticRegression(
            C=strength,
            max_iter=config.max_iterations,
            tol=1e-4,
            solver=solver,
            warm_start=True,
        )
        if path:
            model.coef_ = np.copy(path[-1].coef_)
            model.intercept_ = np.copy(path[-1].intercept_)
            model.classes_ = path[-1].classes_
        with warnings.catch_warnings():  # counted below instead of printed hundreds of times
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("ignore", LinAlgWarning)  # sklearn goes on with L-BFGS then
            path.append(model.fit(features, labels))
    return path


def _solver(features: Matrix | csr_matrix, num_classes: int) -> Literal["lbfgs", "newton-cholesky"]:
    """The cheaper way to the one optimum.

    Newton's method needs a handful of steps where L-BFGS needs hundreds, but a Hessian of
    (class x dim) squared: it is taken where that is small, also beside the rows.
    """
    if not isinstance(features, np.ndarray):
        return "lbfgs"
    small = num_classes * features.shape[1] < min(len(features), LARGEST_HESSIAN)
    return "newton-cholesky" if small else "lbfgs"


def predict(model: LogisticRegression, features: Matrix | csr_matrix) -> Labels:
    """Class of each row."""
    return np.asarray(model.predict(features), dtype=np.int64)


def count_unconverged(path: Sequence[LogisticRegression]) -> int:
    """Classifiers that stopped at the bound of iterations."""
    return sum(int(np.max(model.n_iter_) >= model.max_iter) for model in path)


def refuse_absent_classes(labels: Labels, num_classes: int) -> None:
    """Refuse a training part that lacks a class of the label set.

    Raises:
        ValueError: Names the classes by their place.
    """
    absent = sorted(set(range(num_classes)) - set(labels.tolist()))
    if absent:
        raise ValueError(f"no training row has the class {', '.join(map(str, absent))}")


def _row_space(features: Matrix) -> Float[np.ndarray, "dim rank"]:
    """Orthonormal basis of the rows where there are fewer rows than dimensions, else identity.

    The L2-penalised solution lies in the span of the training rows, so fitting in that basis
    gives the same classifier with fewer numbers to solve for.
    """
    num_rows, dim = features.shape
    if num_rows >= dim:
        return np.eye(dim)
    basis, _ = np.linalg.qr(features.T)
    return basis


def _as_multinomial(
    model: LogisticRegression,
) -> tuple[Float[np.ndarray, "class dim"], Float[np.ndarray, "class"]]:
    """Weights with a row per class; scikit-learn keeps one row for two classes."""
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(weight) == 1:
        return np.concatenate([np.zeros_like(weight), weight]), np.concatenate([[0.0], bias])
    return weight, bias
