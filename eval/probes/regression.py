"""Ridge regression on standardised frozen features, for tasks whose label is a number.

As in `eval.probes.linear_probe`, what fits is given the training and the validation part alone; the
penalty is chosen on validation by mean absolute error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from sklearn.preprocessing import StandardScaler

from eval.metrics import Scores
from eval.probes.linear_probe import Matrix, SplitProblem
from eval.regression_metrics import ClassCuts, RegressionScores, regression_scores
from eval.splits import Split, refuse_leakage

Values = Float[np.ndarray, "row"]
Rows = Int64[np.ndarray, "_"]


@dataclass(frozen=True, kw_only=True)
class RidgeConfig:
    """The grid that every backbone and every floor is given alike."""

    penalty: tuple[float, ...] = (1.0, 10.0, 1e2, 1e3, 1e4, 1e5)
    """Weights of the squared coefficients, scikit-learn's alpha, ascending; the one with the least
    mean absolute error on validation is taken, of equals the strongest."""

    def __post_init__(self) -> None:
        if not self.penalty or not all(0.0 < value < float("inf") for value in self.penalty):
            raise ValueError(f"ridge.penalty must be positive numbers, got {self.penalty}")
        if list(self.penalty) != sorted(set(self.penalty)):
            raise ValueError(f"ridge.penalty must ascend, got {self.penalty}")


@dataclass(frozen=True, kw_only=True)
class FittedRidge:
    """A scaler and a regression that have seen no test row."""

    scaler: StandardScaler
    weight: Float[np.ndarray, "dim"]
    bias: float
    penalty: float
    """What validation chose."""
    validation_mae: float
    """On validation, with that penalty."""
    bounds: tuple[float, float]
    """Least and greatest label that there can be."""

    @property
    def inverse_regularisation(self) -> float:
        """As reports have it."""
        return 1.0 / self.penalty

    @property
    def num_unconverged(self) -> int:
        """Solved in closed form."""
        return 0

    def votes(self, features: Matrix) -> Float[np.ndarray, "row 1"]:
        """Predicted label of each row, within the bounds, as one column."""
        raw = np.asarray(self.scaler.transform(features)) @ self.weight + self.bias
        return np.clip(raw, *self.bounds)[:, None]


@dataclass(frozen=True, kw_only=True)
class RegressionProblem:
    """One split of a set labelled with numbers."""

    labels: Values
    groups: Sequence[str]
    """Group of each row; none may lie in two parts of the split."""
    split: Split
    cuts: ClassCuts
    bounds: tuple[float, float]
    """Predictions are clipped to them."""
    config: RidgeConfig

    @property
    def num_votes(self) -> int:
        """Columns of a probe's votes: the predicted label."""
        return 1

    def fit(self, features: Matrix, learned: Values | None) -> FittedRidge:
        """Fit on the training and validation part.

        Args:
            features: All rows.
            learned: Labels to train and select on in place of the true ones (the shuffled floor).

        Raises:
            ValueError: A group in two parts, or an empty part.
        """
        split, taught = self.split, self.labels if learned is None else learned
        refuse_leakage(split, self.groups)
        return fit_ridge(
            (features[split.train], taught[split.train]),
            (features[split.validation], taught[split.validation]),
            self.config,
            self.bounds,
        )

    def decide(self, votes: Float[np.ndarray, "row 1"]) -> Values:
        """The predicted labels."""
        return votes[:, 0]

    def score(self, rows: Rows, predicted: Values) -> RegressionScores:
        """Predictions of some rows against their labels."""
        return regression_scores(self.labels[rows], predicted, self.cuts)

    def constant(self) -> Values:
        """Predictions of the test part without any feature: the training part's mean."""
        return np.full(len(self.split.test), float(self.labels[self.split.train].mean()))


Problem = SplitProblem | RegressionProblem


def selection_mark(scores: Scores | RegressionScores) -> float:
    """What validation chooses by, more is better: macro-F1, or minus the mean absolute error."""
    return scores.macro_f1 if isinstance(scores, Scores) else -scores.values["mae"]


def fit_ridge(
    train: tuple[Float[np.ndarray, "train dim"], Float[np.ndarray, "train"]],
    validation: tuple[Float[np.ndarray, "validation dim"], Float[np.ndarray, "validation"]],
    config: RidgeConfig,
    bounds: tuple[float, float],
) -> FittedRidge:
    """Solve for the whole grid at once and keep the penalty that validation likes best.

    One decomposition of the smaller of covariance and Gram matrix serves every penalty. The
    intercept is not penalised.
    """
    scaler = StandardScaler().fit(train[0])
    rows, known = (np.asarray(scaler.transform(part[0])) for part in (train, validation))
    mean = float(train[1].mean())
    weights = ridge_path(rows, train[1] - mean, config.penalty)  # [penalty, dim]
    predicted = np.clip(weights @ known.T + mean, *bounds)
    marks = np.abs(predicted - validation[1]).mean(axis=1)
    best = len(marks) - 1 - int(np.argmin(marks[::-1]))  # of equals the strongest
    return FittedRidge(
        scaler=scaler,
        weight=weights[best],
        bias=mean,
        penalty=config.penalty[best],
        validation_mae=float(marks[best]),
        bounds=bounds,
    )


def ridge_path(
    rows: Float[np.ndarray, "row dim"], centred: Values, penalties: Sequence[float]
) -> Float[np.ndarray, "penalty dim"]:
    """Coefficients that minimise ``|y - X w|^2 + penalty |w|^2`` for each penalty.

    Args:
        rows: Columns of mean 0.
        centred: Labels of mean 0.
        penalties: All above 0.
    """
    if len(rows) < rows.shape[1]:
        values, basis = np.linalg.eigh(rows @ rows.T)
        turned = basis.T @ centred
        return np.stack([rows.T @ (basis @ (turned / (values + one))) for one in penalties])
    values, basis = np.linalg.eigh(rows.T @ rows)
    turned = basis.T @ (rows.T @ centred)
    return np.stack([basis @ (turned / (values + one)) for one in penalties])
