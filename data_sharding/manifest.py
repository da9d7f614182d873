"""A set of shards: counts, bytes, sha256, one digest over all."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_sharding.durable import write_durably
from data_sharding.schema import ShardError, canonical_json

MANIFEST_FILE = "manifest.json"
FORMAT = "triptych-shards"
VERSION = 1
SHARD_NAME = re.compile(r"shard-\d{6,}\.tar")


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
class ShardSet:
    """An opened shard set, or one split of it.

    Attributes:
        folder: Where the shards lie.
        shards: The shards of the chosen split (of all splits when none was chosen).
        digest: sha256 over the whole manifest; equal input and settings give an equal digest.
        splits: All splits of the set, sorted, whichever was chosen.
        sources: Name and sha256 of each corpus file that went in.
        licence: Licence of the corpus, as given when it was sharded.
        rejects: Reason -> number of rows that were left out.
    """

    folder: Path
    shards: tuple[ShardEntry, ...]
    digest: str
    splits: tuple[str, ...]
    sources: tuple[Mapping[str, Any], ...] = ()
    licence: str | None = None
    rejects: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, split: str | None = None) -> "ShardSet":
        """Opens a folder that `triptych shard` has finished.

        Raises:
            ShardError: The folder is no finished shard set, or has no such split.
        """
        content = _read_manifest(folder)
        try:
            shards = tuple(ShardEntry(**entry) for entry in content["shards"])
            sources, rejects = tuple(content["sources"]), content["rejects"]
            digest, licence = content["digest"], content["licence"]
        except (KeyError, TypeError) as error:
            raise ShardError(f"{folder / MANIFEST_FILE}: malformed ({error!r})") from error
        for shard in shards:
            if not SHARD_NAME.fullmatch(shard.file):
                raise ShardError(f"{folder / MANIFEST_FILE}: {shard.file!r} is no shard name")
        splits = tuple(sorted({shard.split for shard in shards}))
        if split is not None and split not in splits:
            raise ShardError(f"{folder} has no split {split!r}; it has {', '.join(splits)}")
        chosen = tuple(shard for shard in shards if split in (None, shard.split))
        return cls(
            folder=folder,
            shards=chosen,
            digest=digest,
            splits=splits,
            sources=sources,
            licence=licence,
            rejects=rejects,
        )

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


def write_manifest(folder: Path, shards: Sequence[ShardEntry], facts: Mapping[str, Any]) -> str:
    """Writes manifest.json, the receipt that makes the folder a shard set; returns the digest.

    Args:
        folder: Holds every shard of `shards`, durable already.
        shards: In the order of their numbers.
        facts: ``sources``, ``licence``, ``rejects``, ``config``: what else the digest covers.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "num_samples": sum(shard.samples for shard in shards),
        "shards": [{**asdict(shard), "present": dict(shard.present)} for shard in shards],
        **facts,
    }
    digest = hashlib.sha256(canonical_json(content)).hexdigest()
    text = json.dumps({"digest": digest, **content}, indent=1, ensure_ascii=False) + "\n"
    write_durably(folder / MANIFEST_FILE, text.encode("utf-8"))
    return digest


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise ShardError(f"{folder}: no such folder; make a shard set with `triptych shard`")
    if not path.is_file():
        raise ShardError(
            f"{folder} is no shard set (it has no {MANIFEST_FILE}); make one, or finish it, with "
            f"`triptych shard CORPUS {folder}`"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ShardError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ShardError(f"{path}: not the manifest of a shard set")
    if content.get("version") != VERSION:
        raise ShardError(f"{path}: version {content.get('version')}, this program reads {VERSION}")
    body = {name: part for name, part in content.items() if name != "digest"}
    if hashlib.sha256(canonical_json(body)).hexdigest() != content.get("digest"):
        raise ShardError(f"{path}: its digest does not match its content; it was altered")
    return content
