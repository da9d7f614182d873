"""What a source is, and how the user describes one."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from data_sharding.schema import ALTERNATIVES, MAX_ALTERNATIVES
from data_sharding.sources.rows import Row
from data_sharding.storage import open_binary

FIELDS = ("id", "text", "image", "audio", "split", "language")
LABEL_PREFIX = "label."
METADATA_PREFIX = "metadata."
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How a corpus is read."""

    layout: Literal["auto", "manifest", "folder", "tars"] = "auto"
    """What the corpus is: a manifest (JSONL, CSV or Parquet), a folder whose files of one name form
    a sample (cat.jpg, cat.txt, cat.flac), or WebDataset tars. auto looks: a manifest first, then
    tars, then files."""

    columns: dict[str, str] = field(default_factory=dict)
    """Our name -> the corpus's name, where they differ: ``image picture_path language lang
    label.mood emotion text.1 text_en``. Ours are id, text, image, audio, split, language,
    label.NAME, metadata.NAME, and text.1 to text.6, image.1 ..., audio.1 ... for alternatives: a
    second caption, its translation, another picture or recording of the same. In folders and tars
    it names keys of the JSON files."""

    media_root: str | None = None
    """Folder or URL that a manifest's image and audio paths begin at; none may lead out of it.
    None: the manifest's own folder."""

    def __post_init__(self) -> None:
        for name in self.columns:
            known = name in FIELDS or name in ALTERNATIVES
            if not known and not name.startswith((LABEL_PREFIX, METADATA_PREFIX)):
                raise ValueError(
                    f"source.columns maps {name!r}, which is none of {', '.join(FIELDS)}, "
                    f"text.1 to audio.{MAX_ALTERNATIVES}, label.NAME or metadata.NAME"
                )
        if self.media_root is not None and self.layout in ("folder", "tars"):
            raise ValueError(f"source.media_root is for manifests; a {self.layout} has its own")


@runtime_checkable
class Source(Protocol):
    """A raw corpus that can be read from the start, any number of times, always alike.

    Attributes:
        root: Location that the paths of its media are relative to.
    """

    root: str

    def fingerprint(self) -> list[dict[str, Any]]:
        """Name and digest or size of each file that decides what the rows are, sorted by name."""
        ...

    def rows(self) -> Iterator[Row]:
        """Every row in order; a bad one comes as a rejection, the rest goes on."""
        ...


def file_sha256(location: str) -> str:
    """Digest of a whole file, hexadecimal."""
    digest = hashlib.sha256()
    with open_binary(location) as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
