"""Signatures -> which rows repeat an earlier one, and which belong to one cluster."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from data_sharding.duplicates.buckets import KEPT, Buckets, neighbours
from data_sharding.duplicates.config import HASH_BITS, DuplicatesConfig
from data_sharding.duplicates.signatures import (
    HAS_AUDIO,
    HAS_IMAGE,
    HAS_MINHASH,
    HAS_PERCEPTUAL,
    HAS_TEXT,
    IS_ALTERNATIVE,
    PERMUTATIONS,
)
from data_sharding.duplicates.table import OwnedSignatures, SignatureFiles
from data_sharding.duplicates.union import UnionFile

IMAGE_BANDS = 12
"""Copies within 11 bits share one of the 12 bands for certain, at 16 bits 97 % do."""
RECALL = 0.98
"""Chance that two texts of just the wanted similarity share a band."""
PAIRS_AT_ONCE = 1 << 13

Verdict = Bool[np.ndarray, "pair"]
Judge = Callable[[np.ndarray, np.ndarray], Verdict]


@dataclass(frozen=True)
class Alike:
    """What was found, as forests whose roots are first rows.

    Attributes:
        copies: Rows of equal content.
        near: Rows all of whose modalities are near; None where it was not asked for.
        clusters: Rows that must share a split.
    """

    copies: UnionFile
    near: UnionFile | None
    clusters: UnionFile


@dataclass(frozen=True)
class _Relation:
    """One way of being alike: keys that such rows share, and a check of a pair of rows."""

    name: str
    keys: Callable[[np.ndarray], Iterator[tuple[Int64[np.ndarray, "row"], np.ndarray]]]
    judge: Judge
    num_keys: int = 1

    @property
    def kept(self) -> int:
        """How many rows with one key go on to later pieces: equal bytes need no second one."""
        return 1 if self.num_keys == 1 else KEPT


def find_alike(
    table: SignatureFiles, num_old: int, config: DuplicatesConfig, scratch: Path
) -> Alike:
    """Compares all rows that share a key, by their main parts and by their alternatives.

    Alternatives count for clusters alone.

    Disk: 16 bytes for each of a row's keys of the kind that is at work: up to 12 for each picture
    and each text (12 with the default similarity).

    Args:
        table: Signatures, those of earlier generations first.
        num_old: Rows of earlier generations; two of them are not compared again.
        config: What is near.
        scratch: A folder that is emptied first.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    copies = UnionFile(scratch / "copies", len(table))
    clusters = UnionFile(scratch / "clusters", len(table))
    near = UnionFile(scratch / "near", len(table)) if config.near == "drop" else None
    alike = Alike(copies=copies, near=near, clusters=clusters)
    entries = table.with_alternatives(num_old)
    for relation in _relations(config):
        for left, right, pairs in _related(relation, entries, scratch / relation.name):
            edges = pairs[relation.judge(left, right)]
            clusters.unite(edges)
            if relation.name == "content":
                copies.unite(edges)
            if near is not None:
                near.unite(pairs[_near_in_all(left, right, config)])
    for forest in filter(None, (copies, near, clusters)):
        forest.flatten()
    return alike


def _relations(config: DuplicatesConfig) -> list[_Relation]:
    relations = [
        _Relation("content", _content_keys, _same("content")),
        _Relation("image", lambda rows: _digest_keys(rows, "image", HAS_IMAGE), _same("image")),
        _Relation("audio", lambda rows: _digest_keys(rows, "audio", HAS_AUDIO), _same("audio")),
    ]
    if config.near == "off":
        return relations
    width = band_width(config.text_similarity)
    bands = PERMUTATIONS // width
    near_image = partial(_near_image, config=config)
    near_text = partial(_near_text, config=config)
    return [
        *relations,
        _Relation("perceptual", _perceptual_keys, near_image, IMAGE_BANDS),
        _Relation("text", partial(_text_keys, width=width), near_text, bands),
    ]


def _related(
    relation: _Relation, table: OwnedSignatures, folder: Path
) -> Iterator[tuple[np.ndarray, np.ndarray, Int64[np.ndarray, "pair 2"]]]:
    """Signatures that share a key, and their rows: within each piece, then across pieces."""

    def owned(
        left: np.ndarray, right: np.ndarray, pairs: Int64[np.ndarray, "pair 2"]
    ) -> tuple[np.ndarray, np.ndarray, Int64[np.ndarray, "pair 2"]]:
        rows = [table.owners(pairs[:, 0], left), table.owners(pairs[:, 1], right)]
        return left, right, np.stack(rows, axis=1)

    buckets = Buckets(folder, len(table) * relation.num_keys)
    for first, rows in table.chunks():
        for places, keys in relation.keys(rows):
            for left, right in neighbours(keys):
                pairs = np.stack([places[left], places[right]], axis=1)
                pairs = pairs[first + pairs[:, 1] >= table.num_old]
                yield owned(rows[pairs[:, 0]], rows[pairs[:, 1]], pairs + first)
            buckets.add(keys, places + first, relation.kept)
    for found in buckets.pairs():
        apart = table.piece_of(found[:, 0]) != table.piece_of(found[:, 1])
        across = found[(found[:, 1] >= table.num_old) & apart]
        for start in range(0, len(across), PAIRS_AT_ONCE):
            pairs = across[start : start + PAIRS_AT_ONCE]
            both = table.gather(pairs.ravel()).reshape(-1, 2)
            yield owned(both[:, 0], both[:, 1], pairs)


def _content_keys(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    places = np.flatnonzero((rows["held"] > 0) & (rows["held"] & IS_ALTERNATIVE == 0))
    halves = np.ascontiguousarray(rows["content"][places]).view("<u8").reshape(-1, 2)
    yield places, halves[:, 0].copy()


def _digest_keys(
    rows: np.ndarray, field: str, mark: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    places = np.flatnonzero(rows["held"] & mark)
    yield places, rows[field][places]


def _perceptual_keys(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    places = np.flatnonzero(rows["held"] & HAS_PERCEPTUAL)
    bits = np.unpackbits(rows["perceptual"][places], axis=1)
    width = HASH_BITS // IMAGE_BANDS
    for band in range(IMAGE_BANDS):
        yield places, _mix(np.packbits(bits[:, band * width : (band + 1) * width], axis=1), band)


def _text_keys(rows: np.ndarray, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    places = np.flatnonzero(rows["held"] & HAS_MINHASH)
    values = rows["minhash"][places]
    for band in range(PERMUTATIONS // width):
        yield places, _mix(values[:, band * width : (band + 1) * width], band)


def band_width(similarity: float) -> int:
    """Most hash values in a band with which two texts so similar still meet nearly always."""
    for width in range(PERMUTATIONS, 1, -1):
        if 1.0 - (1.0 - similarity**width) ** (PERMUTATIONS // width) >= RECALL:
            return width
    return 1


def _mix(columns: np.ndarray, band: int) -> UInt64[np.ndarray, "row"]:
    """One well spread key from a few small numbers (the finaliser of SplitMix64, repeated)."""
    keys = np.full(len(columns), band + 1, dtype=np.uint64)
    for column in columns.T:
        keys ^= column.astype(np.uint64)
        keys += np.uint64(0x9E3779B97F4A7C15)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys ^= keys >> np.uint64(31)
    return keys


def _same(field: str) -> Judge:
    return lambda left, right: left[field] == right[field]


def _near_image(left: np.ndarray, right: np.ndarray, config: DuplicatesConfig) -> Verdict:
    different = np.bitwise_count(left["perceptual"] ^ right["perceptual"]).sum(axis=1)
    return (different <= config.image_distance) & _both(left, right, HAS_PERCEPTUAL)


def _near_text(left: np.ndarray, right: np.ndarray, config: DuplicatesConfig) -> Verdict:
    shared = (left["minhash"] == right["minhash"]).mean(axis=1)
    return (shared >= config.text_similarity) & _both(left, right, HAS_MINHASH)


def _near_in_all(left: np.ndarray, right: np.ndarray, config: DuplicatesConfig) -> Verdict:
    """Whether two rows hold the same modalities and all of them are near, in their main parts."""
    held = HAS_IMAGE | HAS_AUDIO | HAS_TEXT
    main = (left["held"] | right["held"]) & IS_ALTERNATIVE == 0
    image = (left["image"] == right["image"]) | _near_image(left, right, config)
    text = (left["text"] == right["text"]) | _near_text(left, right, config)
    alike = image & text & (left["audio"] == right["audio"])
    return main & alike & ((left["held"] & held) == (right["held"] & held))


def _both(left: np.ndarray, right: np.ndarray, mark: int) -> Verdict:
    return (left["held"] & right["held"] & mark) > 0
