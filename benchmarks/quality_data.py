"""The real sets as rows, and which of them pretraining must not see.

Rows that share a picture (or nearly), a name in English, a speaker or a published group of near
duplicates form one cluster, over all sets together. Clusters are held out whole: what is tested
is then in no pretraining shard, in no language and no copy.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

HASH_SIDE = 16
NEAR_BITS = 16
"""Pictures are near when at most this many of the 256 bits of their perceptual hashes differ."""
MIN_CLUSTERS = 10
"""Classes of fewer clusters are not scored: a split in three would leave too few of them."""
LANGUAGES = ("fr", "de", "ru", "ro")
"""Where a picture is read once, in the first of these that it has (else the first there is)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample of a real set; ``cluster`` is filled in by `clustered`."""

    dataset: str
    id: str
    text: str
    image: str | None
    """Path below the set's folder, as is ``audio``."""
    audio: str | None
    label: str | None
    language: str | None
    keys: tuple[str, ...] = field(repr=False)
    """What ties it to other rows of any set."""
    cluster: str = ""

    def record(self, split: str) -> dict[str, object]:
        """The row as a line of a JSONL manifest."""
        return {
            "id": self.id,
            "text": self.text,
            "image": self.image,
            "audio": self.audio,
            "language": self.language,
            "split": split,
            "labels": {} if self.label is None else {"class": self.label},
            "metadata": {"cluster": self.cluster},
        }


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """How a set's ``manifest.csv`` is read."""

    label: str
    """Column of the label."""
    ties: tuple[str, ...]
    """Columns whose equal values tie rows together."""
    name: str | None = None
    """Column with the picture's name in English, which ties rows of different sets."""
    language: str | None = None
    """Column of the language."""


DATASETS: dict[str, Dataset] = {
    "tuxpaint": Dataset(label="label", ties=("image",), name="text_en", language="lang"),
    "art4apps": Dataset(label="label", ties=("image",), name="word_en", language="lang"),
    "mvsa_single": Dataset(label="label", ties=("image", "group")),
    "emodb": Dataset(label="emotion", ties=("speaker",)),
}


def read_rows(data: Path, dataset: str) -> list[Row]:
    """Rows of one set, in the order of its manifest."""
    described = DATASETS[dataset]
    with (data / dataset / "manifest.csv").open(encoding="utf-8-sig", newline="") as stream:
        return [_row(dataset, described, cells) for cells in csv.DictReader(stream)]


def plain_name(text: str) -> str:
    """Words alone, lower case, no article: ``A dog.`` and ``dog`` are one name."""
    words = re.sub(r"[\W_]+", " ", text.lower()).strip()
    return re.sub(r"^(a|an|the|some) ", "", words)


def _row(dataset: str, described: Dataset, cells: Mapping[str, str]) -> Row:
    keys = [f"{dataset}/{column}/{cells[column]}" for column in described.ties if cells[column]]
    if described.name and (name := plain_name(cells[described.name])):
        keys.append(f"name/{name}")
    return Row(
        dataset=dataset,
        id=cells["id"],
        text=cells["text"].strip(),
        image=cells.get("image") or None,
        audio=cells.get("audio") or None,
        label=cells[described.label] or None,
        language=cells[described.language] if described.language else None,
        keys=tuple(keys),
    )


def near_pictures(pictures: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Pairs of names whose pictures are equal or nearly so, brute force over all pairs."""
    names = list(pictures)
    hashes = np.array([_perceptual(pictures[name]) for name in names])  # [picture, 32] bytes
    pairs: list[tuple[str, str]] = []
    for place in range(len(names) - 1):
        apart = np.bitwise_count(hashes[place + 1 :] ^ hashes[place]).sum(1)
        near = np.flatnonzero(apart <= NEAR_BITS) + place + 1
        pairs.extend((names[place], names[other]) for other in near.tolist())
    return pairs


def _perceptual(picture: Path) -> np.ndarray:
    with Image.open(picture) as opened:
        return np.packbits(imagehash.phash(opened.convert("L"), hash_size=HASH_SIDE).hash)


def clustered(rows: Sequence[Row], near: Iterable[tuple[str, str]]) -> list[Row]:
    """The rows with their clusters: all that keys or pairs of keys tie together, transitively."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    ties = [(row.keys[0], key) for row in rows for key in row.keys[1:]]
    for first, second in [*ties, *near]:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    return [replace(row, cluster=root(row.keys[0])) for row in rows]


def held_out(rows: Sequence[Row], share: Mapping[str, float], seed: int) -> set[str]:
    """Clusters that pretraining must not see: about ``share`` of each class of each set.

    A cluster counts for the set and class of most of its rows (the first in the alphabet of
    equals); within these, clusters come in the order of a hash, so adding one moves few others.
    Rows without a label are never held out for their own sake.

    Args:
        rows: With clusters.
        share: Per set; 1 holds all of it out.
        seed: Chooses among clusters.
    """
    strata: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for row in rows:
        if row.label is not None:
            strata[row.cluster][row.dataset, row.label] += 1
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cluster, counts in strata.items():
        members[min(counts, key=lambda stratum: (-counts[stratum], stratum))].append(cluster)
    chosen: set[str] = set()
    for (dataset, _), clusters in members.items():
        order = sorted(clusters, key=lambda name: sha256(f"{seed}/{name}".encode()).digest())
        chosen.update(order[: round(share[dataset] * len(order))])
    return chosen


def thinned(rows: Sequence[Row], share: float) -> list[Row]:
    """About ``share`` of the clusters, drawn by a hash; emodb, which has eight, stays whole."""
    most = round(share * 2**64)
    return [
        row
        for row in rows
        if row.dataset == "emodb"
        or int.from_bytes(sha256(row.cluster.encode()).digest()[:8], "big") < most
    ]


def without_rare_classes(rows: Sequence[Row]) -> list[Row]:
    """The rows of one set; labels of classes with under `MIN_CLUSTERS` clusters are taken off."""
    clusters: dict[str | None, set[str]] = defaultdict(set)
    for row in rows:
        clusters[row.label].add(row.cluster)
    return [
        row if len(clusters[row.label]) >= MIN_CLUSTERS else replace(row, label=None)
        for row in rows
    ]


def one_per_picture(rows: Sequence[Row]) -> list[Row]:
    """One row of each picture, in the first of `LANGUAGES` that it has."""
    rank = {name: place for place, name in enumerate(LANGUAGES)}
    chosen: dict[str | None, Row] = {}
    for row in sorted(rows, key=lambda row: (rank.get(row.language or "", len(rank)), row.id)):
        chosen.setdefault(row.image, row)
    return [row for row in rows if chosen[row.image] is row]


def pictures_of(rows: Sequence[Row], data: Path) -> dict[str, Path]:
    """Key of every picture -> its file."""
    return {
        f"{row.dataset}/image/{row.image}": data / row.dataset / row.image
        for row in rows
        if row.image
    }
