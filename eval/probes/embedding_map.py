"""A task's samples on a plane, by a checkpoint's features: made when probing, drawn by the report.

The plane holds the two directions in which the standardised features vary most (PCA). It is chosen
before t-SNE because it adds nothing: a map of it is a view of what the linear probe reads, equal on
every run, distances in it mean the same everywhere, and random weights look as they are. What lies
mixed up there may still be told apart by further directions, so each map says how much of the
variance it shows. `RUN/maps/CHECKPOINT/TASK.json` holds coordinates and classes alone, no sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from eval.card import TaskCard
from eval.records import Json, read_json
from eval.representations import SUBSETS
from eval.samples import TaskSamples
from pretrain.checkpoint import Checkpoint

MAP_FORMAT = 1
NUM_POINTS = 1000
"""At most; more are drawn from, the same for every representation."""
MIN_POINTS = 3
FIFTHS = (0.2, 0.4, 0.6, 0.8)
DECIMALS = 3

Matrix = Float32[np.ndarray, "sample _"]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """One representation's samples on its plane."""

    places: tuple[tuple[float, float], ...]
    """By sample, in standard deviations along the first direction."""
    classes: tuple[int, ...]
    """By sample: place among the map's classes."""
    shown: tuple[float, float]
    """Share of the features' variance along each direction."""


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """All planes of one checkpoint on one task."""

    task: str
    checkpoint: Mapping[str, Any]
    """Name, step and digest."""
    shards: str
    """Digest of the labelled shards."""
    num_samples: int
    """That the drawn ones were drawn from."""
    classes: tuple[str, ...]
    """Names; of a task with numbers: fifths of the labels."""
    projections: Mapping[str, Projection]
    """By representation."""

    def to_json(self) -> Json:
        """As it is written."""
        return {"format": MAP_FORMAT, **asdict(self)}


def map_path(checkpoint: Checkpoint, task: str) -> Path:
    """Where the map of this checkpoint and task lies."""
    return checkpoint.run / "maps" / checkpoint.folder.name / f"{task}.json"


def has_map(checkpoint: Checkpoint, task: str, shards: str) -> bool:
    """Whether the checkpoint's map of this task, with these shards, is there."""
    try:
        found = map_from_json(read_json(map_path(checkpoint, task)))
    except ValueError:
        return False
    return (found.checkpoint["digest"], found.shards) == (checkpoint.digest, shards)


def make_map(
    card: TaskCard,
    checkpoint: Mapping[str, Any],
    shards: str,
    samples: TaskSamples,
    features: Mapping[str, Matrix],
) -> EmbeddingMap:
    """Project the samples that may be tested, of each representation those that it can be read of.

    Args:
        card: Names the task and its classes.
        checkpoint: Name, step and digest, as reports have them.
        shards: Digest of the labelled shards.
        samples: Labels, and which sample has what.
        features: By representation; of the usual ones where there are any, else of all.
    """
    count = samples.num_testable
    order = np.random.default_rng(0).permutation(count)[:NUM_POINTS]
    drawn = np.sort(order).astype(np.int64)
    classes, names = _classes(card, samples.labels[:count])
    chosen = [name for name in SUBSETS if name in features] or list(features)
    projections = {}
    for name in chosen:
        rows = drawn[samples.has(name)[drawn]]
        if len(rows) >= MIN_POINTS and min(features[name].shape) > 1:
            projections[name] = project(features[name][rows], classes[rows])
    return EmbeddingMap(
        task=card.name,
        checkpoint=checkpoint,
        shards=shards,
        num_samples=count,
        classes=names,
        projections=projections,
    )


def project(
    features: Float32[np.ndarray, "row dim"], classes: Int64[np.ndarray, "row"]
) -> Projection:
    """The rows on the plane of their two widest directions.

    scikit-learn's full decomposition, whose signs are fixed: the same rows give the same places.
    """
    places, shares = np.zeros((len(features), 2)), np.zeros(2)
    scaled = np.asarray(StandardScaler().fit_transform(features.astype(np.float64)))
    if scaled.any():  # else all rows are one
        pca = PCA(n_components=2, svd_solver="full")
        with threadpool_limits(1):
            places = np.asarray(pca.fit_transform(scaled))
        places, shares = places / places[:, 0].std(), pca.explained_variance_ratio_
    first, second = (round(float(share), DECIMALS) for share in shares)
    return Projection(
        places=tuple((float(x), float(y)) for x, y in np.round(places, DECIMALS) + 0.0),  # no -0.0
        classes=tuple(int(place) for place in classes),
        shown=(first, second),
    )


def map_from_json(record: Mapping[str, Any]) -> EmbeddingMap:
    """Read a map back.

    Raises:
        ValueError: Another format version, or no map.
    """
    if record.get("format") != MAP_FORMAT:
        raise ValueError(f"map format {record.get('format')!r}, this version reads {MAP_FORMAT}")
    try:
        return EmbeddingMap(
            task=str(record["task"]),
            checkpoint=dict(record["checkpoint"]),
            shards=str(record["shards"]),
            num_samples=int(record["num_samples"]),
            classes=tuple(map(str, record["classes"])),
            projections={
                str(name): _projection(part, len(record["classes"]))
                for name, part in record["projections"].items()
            },
        )
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not an embedding map: {error}") from None


def _projection(record: Mapping[str, Any], num_classes: int) -> Projection:
    places = tuple((float(x), float(y)) for x, y in record["places"])
    classes = tuple(map(int, record["classes"]))
    if len(places) != len(classes) or any(not 0 <= place < num_classes for place in classes):
        raise ValueError("not an embedding map: places and classes do not belong together")
    first, second = map(float, record["shown"])
    return Projection(places=places, classes=classes, shown=(first, second))


def _classes(
    card: TaskCard, labels: np.ndarray
) -> tuple[Int64[np.ndarray, "sample"], tuple[str, ...]]:
    """Place of each sample's class, and the names; numbers are cut into fifths."""
    if not card.is_regression:
        return labels.astype(np.int64), card.classes
    bounds = np.unique(np.quantile(labels, FIFTHS))
    found = np.searchsorted(bounds, labels, side="right").astype(np.int64)
    return found, _fifths(bounds.tolist())


def _fifths(bounds: Sequence[float]) -> tuple[str, ...]:
    between = [f"{low:+.2g} to below {high:+.2g}" for low, high in pairwise(bounds)]
    return (f"below {bounds[0]:+.2g}", *between, f"{bounds[-1]:+.2g} and above")
