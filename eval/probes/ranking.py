"""Arithmetic of retrieval: places of right answers, recall, and what chance would give."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import hypergeom

from eval.comparison import Interval

NUM_RESAMPLES = 2000
"""Bootstrap resamples."""

CHUNK = 1024
"""Queries that are ranked at once; bounds the memory of a large gallery."""


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Share of queries with a right answer among the first places."""

    value: float
    interval: Interval
    """95 % bootstrap over the queries' groups; the gallery stays."""
    chance: float
    """Expected of a random order, exactly."""
    above_chance: bool
    """The interval lies above chance."""


def first_right_places(
    queries: Float64[np.ndarray, "query dim"],
    gallery: Float64[np.ndarray, "item dim"],
    right: Bool[np.ndarray, "query item"],
    seed: int,
) -> Int64[np.ndarray, "query"]:
    """Place, from 1, of the first right item for each query, by cosine.

    Equals are ranked in a drawn order: a collapsed embedding gets chance, not a perfect score.
    """
    assert right.any(axis=1).all()
    order = np.random.default_rng(seed).permutation(len(gallery))
    items = _unit(gallery)[order]
    places: list[np.ndarray] = []
    for start in range(0, len(queries), CHUNK):
        # Rounded: equal vectors must not be told apart by the last bit of a sum.
        cosine = np.round(_unit(queries[start : start + CHUNK]) @ items.T, 9)
        ranking = np.argsort(-cosine, axis=1, kind="stable")
        hits = np.take_along_axis(right[start : start + CHUNK][:, order], ranking, axis=1)
        places.append(np.argmax(hits, axis=1) + 1)
    return np.concatenate(places).astype(np.int64)


def recall_at(
    cutoff: int,
    places: Int64[np.ndarray, "query"],
    right: Bool[np.ndarray, "query item"],
    groups: Int64[np.ndarray, "query"],
    seed: int,
) -> Recall:
    """Recall among the first ``cutoff`` places, with its interval and its chance.

    Groups are drawn whole: a picture asked for in eight languages is no eight pictures.
    """
    hits = places <= cutoff
    _, group = np.unique(groups, return_inverse=True)
    sizes, found = np.bincount(group), np.bincount(group, weights=hits)
    even = np.full(len(sizes), 1.0 / len(sizes))
    drawn = np.random.default_rng(seed).multinomial(len(sizes), even, size=NUM_RESAMPLES)
    low, high = np.quantile((drawn @ found) / (drawn @ sizes), (0.025, 0.975))
    chance = chance_recall(cutoff, right)
    return Recall(
        value=float(hits.mean()),
        interval=Interval(low=float(low), high=float(high)),
        chance=chance,
        above_chance=bool(low > chance),
    )


def chance_recall(cutoff: int, right: Bool[np.ndarray, "query item"]) -> float:
    """``1 - C(n - m, k) / C(n, k)`` for m right ones among n, mean over queries."""
    num_items = right.shape[1]
    drawn = min(cutoff, num_items)
    return float(np.mean(hypergeom.sf(0, num_items, right.sum(axis=1), drawn)))


def _unit(vectors: Float64[np.ndarray, "row dim"]) -> Float64[np.ndarray, "row dim"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
