"""kNN probe: nearest training samples on frozen features, by cosine, weighted.

Weights ``exp(cosine / temperature)`` as in Wu et al. 2018 (arXiv 1805.01978, section 3.4), of
features standardised by the training part. Nothing is fitted, so it shows what lies close
together, where a linear probe shows what can be told apart. Neighbours come from the training
part alone; their number and the temperature are chosen on validation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F

from eval.probes.knn import class_votes, neighbour_weights
from eval.probes.linear_probe import Matrix, Predictions, SplitProblem
from eval.probes.regression import Problem, selection_mark
from eval.splits import refuse_leakage

QUERIES_AT_ONCE = 1024
"""Rows whose similarities to all training rows are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class KnnProbeConfig:
    """The grid that every backbone is given alike."""

    num_neighbours: tuple[int, ...] = (1, 5, 20, 100)
    """Training samples that vote, ascending; all of them where there are fewer."""
    temperature: tuple[float, ...] = (0.02, 0.07, 0.2, 1.0)
    """Ascending. Small: the nearest decide; large: all vote alike."""

    def __post_init__(self) -> None:
        for name in ("num_neighbours", "temperature"):
            grid = getattr(self, name)
            if not grid or not all(0 < value < float("inf") for value in grid):
                raise ValueError(f"knn.{name} must be positive numbers, got {grid}")
            if list(grid) != sorted(set(grid)):
                raise ValueError(f"knn.{name} must ascend, got {grid}")


class Neighbours(NamedTuple):
    """The nearest training rows of some rows, the nearest first."""

    cosine: Float[Tensor, "row neighbour"]
    labels: Tensor
    """[row, neighbour]: classes, or numbers."""


@dataclass(frozen=True, kw_only=True)
class FittedKnn:
    """Training rows and how their labels are read; it has seen no test row."""

    scaler: StandardScaler
    rows: Float[Tensor, "train dim"]
    """Of length 1."""
    labels: Predictions
    num_classes: int | None
    """None where the label is a number."""
    num_neighbours: int
    temperature: float
    mark: float
    """`selection_mark` on validation, with what was chosen."""

    def votes(self, features: Matrix) -> Float[np.ndarray, "row vote"]:
        """Shares of the neighbours' weights by class; or the weighted mean of their labels."""
        found = _nearest(self._unit(features), self.rows, self.labels, self.num_neighbours)
        return _votes(found, self.temperature, self.num_classes)

    def _unit(self, features: Matrix) -> Float[Tensor, "row dim"]:
        return _unit_rows(self.scaler, features)


def fit_knn(features: Matrix, problem: Problem, config: KnnProbeConfig) -> FittedKnn:
    """Choose the neighbours' number and the temperature on the validation part.

    By macro-F1, or mean absolute error where the label is a number; of equals the most
    neighbours, then the evenest vote.

    Raises:
        ValueError: A group in two parts, or an empty part.
    """
    split, labels = problem.split, problem.labels
    refuse_leakage(split, problem.groups)
    scaler = StandardScaler().fit(features[split.train])
    rows = _unit_rows(scaler, features[split.train])
    taught, known = labels[split.train], _unit_rows(scaler, features[split.validation])
    num_classes = problem.num_classes if isinstance(problem, SplitProblem) else None
    widest = _nearest(known, rows, taught, config.num_neighbours[-1])
    best, best_mark = (0, 0.0), -np.inf
    for count, temperature in _candidates(config, len(rows)):
        found = Neighbours(widest.cosine[:, :count], widest.labels[:, :count])
        decided = problem.decide(_votes(found, temperature, num_classes))
        mark = selection_mark(problem.score(split.validation, decided))
        if mark > best_mark:
            best, best_mark = (count, temperature), mark
    return FittedKnn(
        scaler=scaler,
        rows=rows,
        labels=taught,
        num_classes=num_classes,
        num_neighbours=best[0],
        temperature=best[1],
        mark=float(best_mark),
    )


def _candidates(config: KnnProbeConfig, num_rows: int) -> Iterator[tuple[int, float]]:
    """The grid, from the evenest vote of the most to the nearest alone."""
    counts = dict.fromkeys(min(count, num_rows) for count in reversed(config.num_neighbours))
    yield from product(counts, reversed(config.temperature))


def _unit_rows(scaler: StandardScaler, features: Matrix) -> Float[Tensor, "row dim"]:
    return F.normalize(torch.from_numpy(np.asarray(scaler.transform(features))), dim=1)


def _nearest(
    queries: Float[Tensor, "query dim"],
    rows: Float[Tensor, "train dim"],
    labels: Predictions,
    count: int,
) -> Neighbours:
    """The ``count`` nearest rows of each query, the nearest first."""
    cosines, places = [], []
    for part in queries.split(QUERIES_AT_ONCE):
        found = (part @ rows.T).topk(min(count, len(rows)), dim=1)
        cosines.append(found.values)
        places.append(found.indices)
    theirs: Int64[Tensor, "query neighbour"] = torch.cat(places)
    return Neighbours(torch.cat(cosines), torch.from_numpy(labels)[theirs])


def _votes(
    found: Neighbours, temperature: float, num_classes: int | None
) -> Float[np.ndarray, "row vote"]:
    weights = neighbour_weights(found.cosine, temperature)
    total = weights.sum(1, keepdim=True)  # at least 1: the nearest weighs 1
    if num_classes is None:
        return ((weights * found.labels).sum(1, keepdim=True) / total).numpy()
    return (class_votes(weights, found.labels, num_classes) / total).numpy()
