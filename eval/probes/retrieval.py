"""Retrieval between modalities: how often a sample's own partner is among the first k found.

Encoders have different dimensions, so queries and gallery are compared where they meet: in the
fused space, each embedded from its one modality with the others masked. Similarity is the cosine,
by default after the mean of each modality over the searched samples is taken away (labels and
pairs unread), because modalities lie in cones apart from each other.

A group (one picture in several languages, say) holds several right answers. Either one sample of
each group is searched, drawn by the seed, or all are and any of the group counts. Chance follows
that rule exactly: ``1 - C(n - m, k) / C(n, k)`` for m right ones among n.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32

from data_sharding.manifest import ShardSet
from data_sharding.schema import MODALITIES
from eval.probes.features import refuse_non_finite
from eval.probes.ranking import NUM_RESAMPLES, Recall, first_right_places, recall_at
from eval.records import Json
from eval.representations import represent
from eval.samples import group_of, task_batches
from pretrain.models import Backbone

RETRIEVAL_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """What is searched, and how."""

    cutoffs: tuple[int, ...] = (1, 5, 10)
    """Places of the ranking that count, ascending."""
    gallery: Literal["one_per_group", "all"] = "one_per_group"
    """`one_per_group`: one sample of each group is searched; `all`: every sample is, and any of
    the query's group is right."""
    centre: Literal["modality", "none"] = "modality"
    """`modality`: each modality's own mean is taken away before the cosine; `none`: as it is."""
    seed: int = 0
    """Draws the samples of the groups, the order of equals, and the bootstrap."""
    batch_size: int = 64
    """Samples of one forward pass."""

    def __post_init__(self) -> None:
        places = list(self.cutoffs)
        if not places or places != sorted(set(places)) or places[0] < 1:
            raise ValueError(
                f"retrieval.cutoffs must be ascending numbers from 1, got {self.cutoffs}"
            )
        if self.seed < 0 or self.batch_size < 1:
            raise ValueError("retrieval.seed must be at least 0 and retrieval.batch_size above 0")


@dataclass(frozen=True, kw_only=True)
class Direction:
    """One modality searched with another."""

    num_queries: int
    num_gallery: int
    median_rank: float
    """Of the first right answer; 1 is best."""
    recall: Mapping[str, Recall]
    """By place: ``"1"``, ``"5"``, ``"10"``."""


@dataclass(frozen=True, kw_only=True)
class RetrievalReport:
    """Six directions of one backbone on one set of samples."""

    shards: str
    """Digest of the shard set, all its splits."""
    splits: tuple[str, ...]
    """Those that were searched."""
    num_samples: int
    protocol: Mapping[str, Any]
    directions: Mapping[str, Direction]
    """``text_to_image``, ...; directions without pairs are left out."""

    def to_json(self) -> Json:
        """The report as it is written."""
        return {"format": RETRIEVAL_FORMAT, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Searchable:
    """Samples of a set, each modality embedded alone in the fused space."""

    vectors: Mapping[str, Float32[np.ndarray, "sample dim"]]
    """By modality; rows of a missing one mean nothing."""
    present: Bool[np.ndarray, "sample 3"]
    groups: tuple[str, ...]


def retrieve(
    backbone: Backbone,
    shards: ShardSet,
    group_key: str | None = None,
    config: RetrievalConfig | None = None,
) -> RetrievalReport:
    """Search every modality with every other.

    Args:
        backbone: Frozen; on the device where it lies.
        shards: Samples that it was not pretrained on.
        group_key: Key under ``metadata`` of each sample; None: every sample is a group.
        config: What is searched, and how.

    Raises:
        ValueError: A sample without its group, no pair of modalities in any sample, or features
            that are not finite.
    """
    config = RetrievalConfig() if config is None else config
    found = read_searchable(backbone, shards, group_key, config.batch_size)
    for column, name in enumerate(MODALITIES):
        refuse_non_finite(found.vectors[name][found.present[:, column]], name, "backbone")
    directions = search_all(found, config)
    if not directions:
        raise ValueError("no sample has two modalities, so there is nothing to retrieve")
    protocol = asdict(config) | {
        "vectors": "fusion of one modality alone, the others masked",
        "similarity": "cosine",
        "group_key": group_key,
        "interval": f"95 % bootstrap over groups, {NUM_RESAMPLES} resamples, the gallery fixed",
        "chance": "1 - C(n - m, k) / C(n, k) for m right answers among n, mean over queries",
        "equals": "ranked in an order drawn by the seed",
    }
    return RetrievalReport(
        shards=shards.digest,
        splits=splits_of(shards),
        num_samples=len(found.groups),
        protocol=protocol,
        directions=directions,
    )


def splits_of(shards: ShardSet) -> tuple[str, ...]:
    """The splits that an opened set is read from."""
    return tuple(sorted({shard.split for shard in shards.shards}))


def read_searchable(
    backbone: Backbone, shards: ShardSet, group_key: str | None, batch_size: int
) -> Searchable:
    """Embed every sample once for each modality."""
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in MODALITIES}
    present: list[np.ndarray] = []
    groups: list[str] = []
    alone = {name: f"fused_{name}" for name in MODALITIES}
    backbone.eval()
    for batch in task_batches(backbone, shards, batch_size):
        made = represent(backbone, batch, list(alone.values()))
        for name, fused in alone.items():
            vectors[name].append(made[fused].float().cpu().numpy())
        present.append(batch.present.cpu().numpy())
        groups += [
            group_of(record, str(record.get("id", batch.keys[row])), group_key, shards.location)
            for row, record in enumerate(batch.metadata)
        ]
    return Searchable(
        vectors={name: np.concatenate(parts) for name, parts in vectors.items()},
        present=np.concatenate(present),
        groups=tuple(groups),
    )


def search_all(found: Searchable, config: RetrievalConfig) -> dict[str, Direction]:
    """Every direction for which two samples or more have both modalities."""
    directions = {
        f"{one}_to_{other}": _search(found, (one, other), config)
        for one, other in permutations(MODALITIES, 2)
    }
    return {name: made for name, made in directions.items() if made is not None}


def _search(found: Searchable, pair: tuple[str, str], config: RetrievalConfig) -> Direction | None:
    rows = _searched_rows(found, pair, config)
    if len(rows) < 2:
        return None
    queries, gallery = (_centred(found.vectors[name][rows], config.centre) for name in pair)
    groups = np.unique([found.groups[row] for row in rows], return_inverse=True)[1]
    right = groups[:, None] == groups[None, :]  # [query, gallery]
    places = first_right_places(queries, gallery, right, config.seed)
    return Direction(
        num_queries=len(rows),
        num_gallery=len(rows),
        median_rank=float(np.median(places)),
        recall={
            str(cutoff): recall_at(cutoff, places, right, groups, config.seed)
            for cutoff in config.cutoffs
        },
    )


def _searched_rows(found: Searchable, pair: tuple[str, str], config: RetrievalConfig) -> np.ndarray:
    """Samples with both modalities; one of each group, where so configured.

    The draw does not depend on the direction, so both ways search the same samples.
    """
    columns = [MODALITIES.index(name) for name in pair]
    rows = np.flatnonzero(found.present[:, columns].all(axis=1))
    if config.gallery == "all":
        return rows
    drawn: dict[str, int] = {}
    for row in np.random.default_rng(config.seed).permutation(len(found.groups)):
        if found.present[row, columns].all():
            drawn.setdefault(found.groups[row], int(row))
    return np.sort(np.array(list(drawn.values()), dtype=np.int64))


def _centred(vectors: np.ndarray, centre: str) -> np.ndarray:
    values = vectors.astype(np.float64)
    return values - values.mean(axis=0) if centre == "modality" else values
