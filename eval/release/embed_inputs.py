"""What people want embedded, whatever holds it: files, folders, tables; one sample at a time."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from data_sharding.cleaning.media import read_medium
from data_sharding.retry import patience_with
from data_sharding.schema import MAIN_PARTS, Medium, Record, Rejection, tidy_suffix
from data_sharding.sources import Source, SourceConfig, open_source
from data_sharding.sources.rows import Row

MAX_MEDIUM_BYTES = 512 * 1024 * 1024
"""A larger picture or recording is refused before it is read."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample's inputs, as `pretrain.models.Embedder` takes them; media as bytes."""

    id: str
    source: str
    """The input that it came from, as it was named."""
    text: str | None = None
    image: bytes | None = None
    audio: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A sample that cannot be had, and why."""

    id: str
    source: str
    reason: str


class SingleFile:
    """One text, picture or recording as a source of one sample, whose id is the file's name.

    Raises:
        ValueError: The file's name says that it is none of these.
    """

    def __init__(self, location: str) -> None:
        self.root, self._name = os.path.split(os.path.abspath(location))
        part = MAIN_PARTS.get(_suffix(location))
        if part is None or part == "card":
            raise ValueError(
                f"{location}: neither a text, picture or recording "
                f"({', '.join(name for name in MAIN_PARTS if name != 'json')}) nor a table "
                "(jsonl, csv, parquet)"
            )
        self._part = part

    def rows(self) -> Iterator[Row]:
        """The one row."""
        medium = Medium(path=self._name)
        try:
            yield Row(number=1, content=self._record(medium))
        except Rejection as rejection:
            yield Row(number=1, content=rejection)

    def _record(self, medium: Medium) -> Record:
        if self._part == "image":
            return Record(id=self._name, image=medium)
        if self._part == "audio":
            return Record(id=self._name, audio=medium)
        encoded = read_medium(self.root, medium, MAX_MEDIUM_BYTES, patience_with(self.root))
        try:
            return Record(id=self._name, text=encoded.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            detail = f"{self._name!r}: byte {error.start} is not UTF-8"
            raise Rejection("invalid-utf8", detail) from error


def open_inputs(locations: Sequence[str], config: SourceConfig) -> dict[str, Source | SingleFile]:
    """Every input by its name, opened; what can be checked is checked before any work.

    Raises:
        ValueError: An input that is no file, folder or table; one that is named twice.
    """
    opened: dict[str, Source | SingleFile] = {}
    for location in locations:
        if location in opened:
            raise ValueError(f"{location} is named twice")
        single = os.path.isfile(location) and _suffix(location) in MAIN_PARTS
        opened[location] = SingleFile(location) if single else open_source(location, config)
    return opened


def read_inputs(opened: dict[str, Source | SingleFile]) -> Iterator[Sample | Broken]:
    """Samples in the order of the inputs and of their rows; media are read as they come.

    Raises:
        OSError: The storage failed at every try.
    """
    for name, source in opened.items():
        for row in source.rows():
            if isinstance(row.content, Rejection):
                yield Broken(id=f"row {row.number}", source=name, reason=row.content.detail)
            else:
                yield _read(row.content, name, source.root)


def _read(record: Record, source: str, root: str) -> Sample | Broken:
    try:
        media = {
            name: read_medium(root, medium, MAX_MEDIUM_BYTES, patience_with(root))
            for name, medium in (("image", record.image), ("audio", record.audio))
            if medium is not None
        }
    except Rejection as rejection:
        return Broken(id=record.id, source=source, reason=rejection.detail)
    if record.text is None and not media:
        return Broken(id=record.id, source=source, reason="has no text, picture or recording")
    return Sample(id=record.id, source=source, text=record.text, **media)


def _suffix(location: str) -> str:
    return tidy_suffix(os.path.splitext(location)[1].removeprefix("."))
