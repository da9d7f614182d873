"""A set of shards: counts, bytes, sha256, one digest over all.

A set grows by generations: each is one sharding job, which appends shards and changes none.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_sharding.durable import write_durably
from data_sharding.retry import patience_with, retrying
from data_sharding.schema import ShardError, canonical_json
from data_sharding.storage import is_remote, join, read_bytes

MANIFEST_FILE = "manifest.json"
FORMAT = "triptych-shards"
VERSION = 2
SHARD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.tar")
"""A plain file name: a manifest's names are joined to its location."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard as the manifest lists it.

    Attributes:
        file: Name of the tar inside the set's folder.
        split: The one split that all its samples belong to.
        samples: Number of samples.
        bytes: Size of the tar.
        sha256: Digest of the tar, hexadecimal.
        present: Modality -> number of samples that have it.
    """

    file: str
    split: str
    samples: int
    bytes: int
    sha256: str
    present: Mapping[str, int]

    @property
    def index_file(self) -> str:
        """Name of the index beside the tar."""
        return self.file.removesuffix(".tar") + ".idx"


@dataclass(frozen=True, kw_only=True)
class Generation:
    """One sharding job's part of a set.

    Attributes:
        num_shards: How many shards it appended.
        sources: Name and fingerprint of each corpus file that went in.
        licence: Licence of the corpus, as given when it was sharded.
        rejects: Reason -> number of rows that were left out.
        config: The job's settings.
    """

    num_shards: int
    sources: tuple[Mapping[str, Any], ...] = ()
    licence: str | None = None
    rejects: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """An opened shard set, or one split of it.

    Attributes:
        location: Local folder or URL where the shards lie.
        shards: The shards of the chosen split (of all splits when none was chosen).
        digest: sha256 over the whole manifest; equal input and settings give an equal digest.
        splits: All splits of the set, sorted, whichever was chosen.
        generations: The sharding jobs that made the set, in order.
    """

    location: str
    shards: tuple[ShardEntry, ...]
    digest: str
    splits: tuple[str, ...]
    generations: tuple[Generation, ...] = ()

    @classmethod
    def open(cls, location: Path | str, split: str | None = None) -> "ShardSet":
        """Opens what `triptych shard` or `triptych index` has finished.

        Raises:
            ShardError: It is no finished shard set, or has no such split.
        """
        location = str(location)
        content = _read_manifest(location)
        try:
            shards = tuple(ShardEntry(**entry) for entry in content["shards"])
            generations = tuple(_generation(entry) for entry in content["generations"])
            digest = content["digest"]
        except (KeyError, TypeError) as error:
            raise ShardError(f"{location}/{MANIFEST_FILE}: malformed ({error!r})") from error
        for shard in shards:
            if not SHARD_NAME.fullmatch(shard.file):
                raise ShardError(f"{location}/{MANIFEST_FILE}: {shard.file!r} is no shard name")
        splits = tuple(sorted({shard.split for shard in shards}))
        if split is not None and split not in splits:
            raise ShardError(f"{location} has no split {split!r}; it has {', '.join(splits)}")
        return cls(
            location=location,
            shards=tuple(shard for shard in shards if split in (None, shard.split)),
            digest=digest,
            splits=splits,
            generations=generations,
        )

    @property
    def folder(self) -> Path:
        """The set's local folder.

        Raises:
            ShardError: The set is remote.
        """
        if is_remote(self.location):
            raise ShardError(f"{self.location} is remote; this needs a copy on a local disk")
        return Path(self.location)

    @property
    def sources(self) -> tuple[Mapping[str, Any], ...]:
        """Every generation's corpus files."""
        return tuple(source for part in self.generations for source in part.sources)

    @property
    def licence(self) -> str | None:
        """Every licence of the set, joined by "AND"; None where a generation states none."""
        stated = [part.licence for part in self.generations]
        if not stated or None in stated:
            return None
        return " AND ".join(dict.fromkeys(str(licence) for licence in stated))

    @property
    def rejects(self) -> dict[str, int]:
        """Reason -> number of rows left out, over all generations."""
        return sum_counts([part.rejects for part in self.generations])

    @property
    def num_samples(self) -> int:
        """Samples in the chosen split (in all when none was chosen)."""
        return sum(shard.samples for shard in self.shards)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples in each shard."""
        return tuple(shard.samples for shard in self.shards)

    @property
    def present(self) -> dict[str, int]:
        """Modality -> number of samples that have it."""
        return sum_counts([shard.present for shard in self.shards])


def sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Adds counts key by key; the keys keep the order of their first appearance."""
    names = dict.fromkeys(name for count in counts for name in count)
    return {name: sum(count.get(name, 0) for count in counts) for name in names}


def write_manifest(
    folder: Path, shards: Sequence[ShardEntry], generations: Sequence[Generation]
) -> str:
    """Writes manifest.json, the receipt that makes the folder a shard set; returns the digest.

    Args:
        folder: Holds every shard of `shards`, durable already.
        shards: In the order of their generations and numbers.
        generations: Together they have as many shards.
    """
    assert len(shards) == sum(part.num_shards for part in generations)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "num_samples": sum(shard.samples for shard in shards),
        "shards": [{**asdict(shard), "present": dict(shard.present)} for shard in shards],
        "generations": [asdict(part) for part in generations],
    }
    digest = hashlib.sha256(canonical_json(content)).hexdigest()
    text = json.dumps({"digest": digest, **content}, indent=1, ensure_ascii=False) + "\n"
    write_durably(folder / MANIFEST_FILE, text.encode("utf-8"))
    return digest


def _generation(entry: Mapping[str, Any]) -> Generation:
    return Generation(**{**entry, "sources": tuple(entry["sources"])})


def _read_manifest(location: str) -> dict[str, Any]:
    path = join(location, MANIFEST_FILE)
    advice = f"`triptych shard CORPUS {location}`"
    try:
        raw = retrying(lambda: read_bytes(path), path, patience_with(location))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(
            f"{location} is no shard set (it has no {MANIFEST_FILE}); make one, or finish it, with "
            + advice
        ) from error
    except OSError as error:
        raise ShardError(f"{path}: cannot be read ({error})") from error
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise ShardError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ShardError(f"{path}: not the manifest of a shard set")
    if content.get("version") != VERSION:
        raise ShardError(
            f"{path}: version {content.get('version')}, this program reads {VERSION}; shard the "
            "corpus again"
        )
    body = {name: part for name, part in content.items() if name != "digest"}
    if hashlib.sha256(canonical_json(body)).hexdigest() != content.get("digest"):
        raise ShardError(f"{path}: its digest does not match its content; it was altered")
    return content
