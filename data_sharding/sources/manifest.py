"""Manifest files: JSONL, CSV and Parquet, row by row.

JSONL: one object a line with the keys ``id``, ``text``, ``image``, ``audio``, ``split``,
``language``, ``labels`` (an object), ``metadata`` (an object); other keys go to the metadata.
CSV and Parquet: the same names as columns, ``label.NAME`` for a label; other columns go to the
metadata (in Parquet, ``labels`` and ``metadata`` may also be structs).
``image`` and ``audio`` are paths below the media root. Several texts, pictures or recordings of one
thing are alternatives: a list in JSONL and Parquet, or ``text.1``, ``text.2``, ``image.1`` ...
"""

import csv
import io
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from data_sharding.schema import Rejection
from data_sharding.sources.config import SourceConfig, file_sha256
from data_sharding.sources.fields import parse_json, record_or_rejection
from data_sharding.sources.parquet import parquet_rows
from data_sharding.sources.rows import Row
from data_sharding.storage import exists, is_folder, open_binary

MANIFEST_NAMES = ("manifest.jsonl", "manifest.csv", "manifest.parquet")
CONTENT_FIELDS = ("text", "image", "audio")
MAX_FIELD_CHARACTERS = 16 * 1024 * 1024
FIRST_ROWS = 100
"""Rows that are looked at before work starts, to see that the mapped columns are there."""

Parsed = Iterator[tuple[int, dict[str, Any] | Rejection]]


class ManifestSource:
    """A manifest file and the media it names.

    Raises:
        ValueError: No such file, another kind of file, or it lacks the columns; known before any
            work starts.
    """

    def __init__(self, location: str, config: SourceConfig) -> None:
        self.location = location
        self.root = config.media_root or posixpath.dirname(location) or "."
        self._columns = config.columns
        suffix = posixpath.splitext(location)[1].lower()
        if suffix not in READERS:
            raise ValueError(
                f"{location}: a manifest is a {', '.join(READERS)} file, not {suffix!r}"
            )
        if is_folder(location) or not exists(location):
            raise ValueError(f"{location}: no such manifest file")
        self._read = READERS[suffix]
        self._check_first_rows()

    def fingerprint(self) -> list[dict[str, Any]]:
        """Name and sha256 of the manifest file."""
        name = posixpath.basename(self.location)
        return [{"file": name, "sha256": file_sha256(self.location)}]

    def rows(self) -> Iterator[Row]:
        """Every row in order."""
        for number, fields in self._read(self.location, self._columns):
            content = record_or_rejection(fields, number, self._columns)
            yield Row(number=number, content=content)

    def _check_first_rows(self) -> None:
        """A mapping that fits no row would only show up as a corpus of rejects."""
        first = islice(self._read(self.location, self._columns), FIRST_ROWS)
        rows = [fields for _, fields in first if not isinstance(fields, Rejection)]
        names = dict.fromkeys(name for fields in rows for name in fields)
        if rows:
            check_columns(self.location, list(names), self._columns)
        for name in ("image", "audio"):
            column = self._columns.get(name, name)
            if any(isinstance(fields.get(column), dict | bytes) for fields in rows):
                raise ValueError(
                    f"{self.location}: column {column!r} holds the files themselves, where paths "
                    "are needed; write them out as files or WebDataset tars first"
                )


def check_columns(location: str, names: list[str], columns: Mapping[str, str]) -> None:
    """Checks that a manifest has what is mapped, and something to make samples of.

    Args:
        location: The manifest, for messages.
        names: Its columns, or the keys of its first rows.
        columns: Our name -> its name.

    Raises:
        ValueError: With the columns that are there.
    """
    there = ", ".join(names) or "nothing"
    missing = [column for column in columns.values() if column not in names]
    if missing:
        raise ValueError(
            f"{location} has no column {', '.join(map(repr, missing))}; it has {there}"
        )
    if not any(columns.get(name, name) in names for name in CONTENT_FIELDS):
        raise ValueError(
            f"{location} has no column text, image or audio; it has {there}; "
            "map its columns with the option source.columns"
        )


def _json_rows(location: str, columns: Mapping[str, str]) -> Parsed:
    with open_binary(location) as file:
        # surrogateescape lets one broken row through to be rejected, instead of ending the file.
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
        for number, line in enumerate(text, start=1):
            if line.strip():
                yield number, parse_json(line)


def _csv_rows(location: str, columns: Mapping[str, str]) -> Parsed:
    with open_binary(location) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        yield from _csv_cells(text, location, columns)


def _csv_cells(lines: Iterable[str], location: str, columns: Mapping[str, str]) -> Parsed:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader(lines)
    header = next(reader, [])
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise ValueError(f"{location}: its header names {', '.join(doubled)} more than once")
    check_columns(location, header, columns)
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Rejection("bad-row", f"not CSV: {error}")
            continue
        if not cells:
            number -= 1
        elif len(cells) != len(header):
            detail = f"{len(cells)} cells where the header has {len(header)}"
            yield number, Rejection("bad-row", detail)
        else:
            yield number, dict(zip(header, cells, strict=True))


READERS: Mapping[str, Callable[[str, Mapping[str, str]], Parsed]] = {
    ".jsonl": _json_rows,
    ".csv": _csv_rows,
    ".parquet": parquet_rows,
}
