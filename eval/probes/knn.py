"""Online kNN: what the embeddings of a labelled set are worth while training goes on.

Weighted k nearest neighbours by cosine, as in Wu et al. 2018 (arXiv 1805.01978, section 3.4):
each of the k neighbours votes with ``exp(cosine / temperature)``. Every sample is asked once, its
neighbours come from other groups than its own, so a picture is never found by its own copy.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from data_sharding.batch import TripleBatch
from eval.card import Task
from eval.metrics import score
from eval.representations import SUBSETS, readable, represent
from eval.samples import group_of, task_batches
from pretrain.models import Backbone


@dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """Neighbours and how they vote."""

    num_neighbours: int = 20
    """Samples that vote; fewer where a task has fewer."""
    temperature: float = 0.07
    """Small: the nearest decide; large: all vote alike."""
    max_samples: int = 1000
    """Labelled samples kept in memory, whole groups of them; which ones is fixed."""
    batch_size: int = 64
    """Samples of one forward pass."""

    def __post_init__(self) -> None:
        for name in ("num_neighbours", "max_samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"knn.{name} must be at least 1, got {getattr(self, name)}")
        if not self.temperature > 0.0:
            raise ValueError(f"knn.temperature must be above 0, got {self.temperature}")


class OnlineKnn:
    """Scores a backbone in training on a labelled set: forward passes only, after the first call.

    Args:
        task: The labelled set; what it trains on alone (`TaskCard.learn_split`) is left out.
        config: Neighbours, and how many samples.

    Raises:
        ValueError: The task's label is a number.
    """

    def __init__(self, task: Task, config: KnnConfig | None = None) -> None:
        if task.card.is_regression:
            raise ValueError(
                f"task {task.name}: online kNN scores classes, and its label is a number"
            )
        self.task = task
        self.config = KnnConfig() if config is None else config
        self._cached: _Cached | None = None
        self._told: set[str] = set()

    def __call__(self, backbone: Backbone) -> dict[str, float]:
        """Macro-F1 in [0, 1] by ``knn/text``, ``knn/image``, ``knn/audio``, ``knn/fused``.

        A representation is left out where no sample of the task has it; where its samples lie in
        fewer than two groups, so that none has a neighbour; or while its embeddings are not
        finite (NaN is no number in JSON). The latter two are said once, on stderr. The backbone
        is evaluated on its device and in its type, and its training mode, module by module, is
        restored.

        Raises:
            ValueError: No labelled sample, or a sample without its group.
        """
        if self._cached is None:
            with torch.random.fork_rng(devices=[]):  # a loader's start draws from it
                self._cached = _cache(backbone, self.task, self.config)
        cached = self._cached
        with _evaluating(backbone):
            made = [represent(backbone, batch, SUBSETS) for batch in cached.batches]
        scores: dict[str, float] = {}
        for name in SUBSETS:
            mask = readable(name, cached.present)
            if not mask.any():
                continue
            if len(set(cached.groups[mask].tolist())) < 2:
                self._tell(f"{name} is not scored: all samples that have it are of one group")
                continue
            vectors = torch.cat([part[name].float() for part in made]).cpu()[torch.from_numpy(mask)]
            if not torch.isfinite(vectors).all():
                self._tell(f"{name} is not scored while its embeddings are not finite")
                continue
            scores[f"knn/{name}"] = self._score(vectors, cached, mask)
        return scores

    def _tell(self, sentence: str) -> None:
        """Say it once, on stderr."""
        if sentence not in self._told:
            self._told.add(sentence)
            print(f"online kNN on {self.task.name}: {sentence}", file=sys.stderr, flush=True)

    def _score(
        self, vectors: Float[Tensor, "row dim"], cached: "_Cached", mask: np.ndarray
    ) -> float:
        truth, classes = cached.labels[mask], len(self.task.card.classes)
        predicted = knn_predict(vectors, truth, cached.groups[mask], classes, self.config)
        return score(truth, predicted, classes).macro_f1


def knn_predict(
    vectors: Float[Tensor, "row dim"],
    labels: Int64[np.ndarray, "row"],
    groups: Int64[np.ndarray, "row"],
    num_classes: int,
    config: KnnConfig,
) -> Int64[np.ndarray, "row"]:
    """Class of each row by the vote of its neighbours in other groups.

    Raises:
        ValueError: All rows are of one group, so some row has no neighbour.
    """
    if len(set(groups.tolist())) < 2:
        raise ValueError("online kNN needs samples of at least two groups")
    unit = F.normalize(vectors.float(), dim=1)
    own = torch.from_numpy(groups)
    cosine = (unit @ unit.T).masked_fill(own[:, None] == own[None, :], -torch.inf)
    found = cosine.topk(min(config.num_neighbours, len(labels) - 1), dim=1)  # [row, neighbour]
    weights = neighbour_weights(found.values, config.temperature)
    by_class = class_votes(weights, torch.from_numpy(labels)[found.indices], num_classes)
    return by_class.argmax(1).numpy().astype(np.int64)


def neighbour_weights(
    cosine: Float[Tensor, "row neighbour"], temperature: float
) -> Float[Tensor, "row neighbour"]:
    """What each neighbour's vote weighs beside the nearest's, which is the first of its row.

    Relative to the nearest the vote is the same and cannot overflow; a cosine of -inf weighs 0.
    """
    return ((cosine - cosine[:, :1]) / temperature).exp()


def class_votes(
    weights: Float[Tensor, "row neighbour"],
    labels: Int64[Tensor, "row neighbour"],
    num_classes: int,
) -> Float[Tensor, "row class"]:
    """Sum of the neighbours' weights by their class."""
    votes = torch.zeros(len(weights), num_classes, dtype=weights.dtype)
    return votes.scatter_add_(1, labels, weights)


@dataclass(frozen=True)
class _Cached:
    """Preprocessed inputs and labels, in a fixed order."""

    batches: list[TripleBatch]
    labels: Int64[np.ndarray, "sample"]
    groups: Int64[np.ndarray, "sample"]
    present: np.ndarray


@dataclass(frozen=True)
class _Kept:
    """One labelled sample that may stay."""

    draw: str
    """Digest of its group: the groups whose digests come first stay."""
    group: str
    label: int
    row: TripleBatch


class _Sieve:
    """Holds at most so many samples while a task goes by; groups stay whole or go whole."""

    def __init__(self, task: Task, max_samples: int) -> None:
        self.card = task.card
        self.max_samples = max_samples
        self.kept: list[_Kept] = []
        self.limit = "g"  # above every hexadecimal digest: nothing has had to go so far

    def take(self, batch: TripleBatch) -> None:
        """Add the batch's labelled samples; let the last groups go where there are too many."""
        for place, record in enumerate(batch.metadata):
            label = record.get("labels", {}).get(self.card.label_key)
            if label in self.card.classes:
                self._add(batch.slice(place, place + 1), record, self.card.classes.index(label))
        while len(self.kept) > self.max_samples:
            self.limit = max(sample.draw for sample in self.kept)
            self.kept = [sample for sample in self.kept if sample.draw < self.limit]

    def _add(self, row: TripleBatch, record: Mapping[str, object], label: int) -> None:
        sample_id, where = str(record.get("id", row.keys[0])), f"task {self.card.name}"
        group = group_of(record, sample_id, self.card.group_key, where)
        draw = hashlib.sha256(group.encode()).hexdigest()
        if draw < self.limit:
            self.kept.append(_Kept(draw, group, label, _joined([row])))


def _cache(backbone: Backbone, task: Task, config: KnnConfig) -> _Cached:
    """Read the task once and keep what fits."""
    sieve = _Sieve(task, config.max_samples)
    for batch in task_batches(backbone, task.shards, config.batch_size):
        sieve.take(batch)
    kept, size = sieve.kept, config.batch_size
    if not kept:
        raise ValueError(
            f"task {task.name}: no sample carries labels.{task.card.label_key}, or its groups are "
            f"larger than knn.max_samples ({config.max_samples})"
        )
    numbers = {group: number for number, group in enumerate(sorted({s.group for s in kept}))}
    return _Cached(
        batches=[_joined([s.row for s in kept[i : i + size]]) for i in range(0, len(kept), size)],
        labels=np.array([sample.label for sample in kept], dtype=np.int64),
        groups=np.array([numbers[sample.group] for sample in kept], dtype=np.int64),
        present=np.concatenate([sample.row.present.numpy() for sample in kept]),
    )


def _joined(rows: Sequence[TripleBatch]) -> TripleBatch:
    """Batches as one, in memory of its own."""
    parts: dict[str, Any] = {}
    for field in fields(TripleBatch):
        values = [getattr(row, field.name) for row in rows]
        parts[field.name] = torch.cat(values) if torch.is_tensor(values[0]) else sum(values, ())
    return TripleBatch(**parts)


@contextmanager
def _evaluating(backbone: Backbone) -> Iterator[None]:
    """Evaluation mode inside the block; each module's own mode after it."""
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
