"""Raw corpora -> records: manifest files in JSONL or CSV.

JSONL: one object a line with the keys ``id``, ``text``, ``image``, ``audio``, ``split``,
``labels`` (an object), ``metadata`` (an object); other keys go to the metadata.
CSV: the same names as columns, ``label.NAME`` for a label; other columns go to the metadata.
``image`` and ``audio`` are paths relative to the manifest's folder.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from data_sharding.schema import DEFAULT_SPLIT, Record, Rejection

MANIFEST_NAMES = ("manifest.jsonl", "manifest.csv")
FIELDS = ("id", "text", "image", "audio", "split")
LABEL_PREFIX = "label."
MAX_FIELD_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a manifest file: a record, or why there is none.

    Attributes:
        number: Line (JSONL) or record (CSV) of the file, from 1; the CSV header is 0.
        content: The record, or the rejection that took its place.
    """

    number: int
    content: Record | Rejection


def find_manifest(corpus: Path) -> Path:
    """The manifest file of a corpus: the given file, or the one inside the given folder.

    Raises:
        ValueError: There is none, there are two, or it is of another kind.
    """
    if corpus.is_dir():
        found = [corpus / name for name in MANIFEST_NAMES if (corpus / name).is_file()]
        if len(found) != 1:
            number = "both" if found else "neither"
            raise ValueError(
                f"{corpus} holds {number} of {' and '.join(MANIFEST_NAMES)}; name the manifest file"
            )
        return found[0]
    if not corpus.is_file():
        raise ValueError(f"{corpus}: no such manifest file or folder")
    if corpus.suffix not in (".jsonl", ".csv"):
        raise ValueError(f"{corpus}: a manifest is a .jsonl or .csv file, not {corpus.suffix!r}")
    return corpus


def read_rows(manifest: Path, columns: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Reads a manifest file row by row; bad rows come as rejections, the rest goes on.

    Args:
        manifest: A ``.jsonl`` or ``.csv`` file in UTF-8.
        columns: Name of this program (``image``, ``label.mood``) -> name in the file.

    Raises:
        ValueError: The mapping names an unknown field, or a CSV lacks the columns.
    """
    mapping = dict(columns or {})
    for name in mapping:
        if name not in FIELDS and not name.startswith(LABEL_PREFIX):
            raise ValueError(
                f"columns maps {name!r}, which is none of {', '.join(FIELDS)} or label.NAME"
            )
    # surrogateescape lets one broken row through to be rejected, instead of ending the file.
    with manifest.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        parsed = _json_rows(file) if manifest.suffix == ".jsonl" else _csv_rows(file, mapping)
        for number, fields in parsed:
            yield Row(number=number, content=_record_or_rejection(fields, number, mapping))


def _json_rows(file: TextIO) -> Iterator[tuple[int, dict[str, Any] | Rejection]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield number, _json_fields(line)


def _json_fields(line: str) -> dict[str, Any] | Rejection:
    """One JSON object with its labels and metadata lifted to the top, as in a CSV."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Rejection("bad-row", f"not JSON: {error}")
    if not isinstance(fields, dict):
        return Rejection("bad-row", f"a JSON object is needed, this is a {type(fields).__name__}")
    labels, metadata = fields.pop("labels", None) or {}, fields.pop("metadata", None) or {}
    if not isinstance(labels, dict) or not isinstance(metadata, dict):
        return Rejection("bad-row", "labels and metadata must be JSON objects")
    lifted = {LABEL_PREFIX + name: value for name, value in labels.items()}
    clash = sorted(set(metadata) & set(FIELDS))
    if clash:
        return Rejection("bad-row", f"metadata uses the name of a field: {', '.join(clash)}")
    return {**metadata, **fields, **lifted}


def _csv_rows(
    file: TextIO, mapping: Mapping[str, str]
) -> Iterator[tuple[int, dict[str, Any] | Rejection]]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader(file)
    header = next(reader, [])
    _check_header(header, mapping)
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


def _check_header(header: list[str], mapping: Mapping[str, str]) -> None:
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise ValueError(f"the CSV header names {', '.join(doubled)} more than once")
    missing = [column for column in mapping.values() if column not in header]
    if missing:
        raise ValueError(
            f"the CSV has no column {', '.join(map(repr, missing))}; it has {', '.join(header)}"
        )
    if not any(mapping.get(name, name) in header for name in ("text", "image", "audio")):
        raise ValueError(
            f"the CSV has no column text, image or audio; it has {', '.join(header) or 'nothing'}; "
            "map its columns with the option columns"
        )


def _record_or_rejection(
    fields: dict[str, Any] | Rejection, number: int, mapping: Mapping[str, str]
) -> Record | Rejection:
    if isinstance(fields, Rejection):
        return fields
    try:
        return _record(fields, number, mapping)
    except UnicodeEncodeError:
        return Rejection("invalid-utf8", "the row holds bytes that are not UTF-8")
    except ValueError as error:
        return Rejection("bad-row", str(error))


def _record(fields: dict[str, Any], number: int, mapping: Mapping[str, str]) -> Record:
    """Sorts a row's fields into a record.

    Raises:
        ValueError: A field of the wrong type (UnicodeEncodeError: not UTF-8).
    """
    renamed = {name: fields.pop(column, None) for name, column in mapping.items()}
    rest = {**fields, **renamed}
    named = {name: _text_or_none(rest.pop(name, None), name) for name in FIELDS}
    labels = {
        name.removeprefix(LABEL_PREFIX): _text_or_none(value, name)
        for name, value in rest.items()
        if name.startswith(LABEL_PREFIX)
    }
    record = Record(
        id=named["id"] or f"row-{number}",
        text=named["text"],
        image=named["image"],
        audio=named["audio"],
        split=named["split"] or DEFAULT_SPLIT,
        labels={name: value for name, value in labels.items() if value is not None},
        metadata={
            name: value
            for name, value in rest.items()
            if not name.startswith(LABEL_PREFIX) and value not in (None, "")
        },
    )
    record.card()
    for part in (record.text, record.image, record.audio, record.split):
        (part or "").encode("utf-8")
    return record


def _text_or_none(value: object, name: str) -> str | None:
    """A text, a number as text, or None for nothing."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"{name} is a {type(value).__name__}, not a text or a number")
