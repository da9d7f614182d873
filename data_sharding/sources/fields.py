"""Named values of one row -> a record; what does not fit becomes a rejection."""

import json
import re
from collections.abc import Mapping
from typing import Any

from data_sharding.schema import (
    ALTERNATIVES,
    DEFAULT_SPLIT,
    MAX_ALTERNATIVES,
    MODALITIES,
    Medium,
    Record,
    Rejection,
)
from data_sharding.sources.config import FIELDS, LABEL_PREFIX, METADATA_PREFIX

LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
"""The shape of a BCP 47 tag."""

BLANKS = " \t\r\n"


def record_or_rejection(
    fields: Mapping[str, Any] | Rejection, number: int, columns: Mapping[str, str]
) -> Record | Rejection:
    """Sorts a row's values into a record.

    Args:
        fields: Name -> value; labels as ``label.NAME``, anything unknown goes to the metadata.
            ``image`` and ``audio`` may be a path or a `Medium`; they and ``text`` may be a list,
            whose further items are alternatives, as are ``text.1``, ``image.2`` and so on.
        number: The row's number, the source of its id when it has none.
        columns: Our name -> the name in `fields`.
    """
    if isinstance(fields, Rejection):
        return fields
    try:
        return _record(fields, number, columns)
    except UnicodeError:
        return Rejection("invalid-utf8", "the row holds bytes that are not UTF-8")
    except ValueError as error:
        return Rejection("bad-row", str(error))


def parse_json(text: str) -> dict[str, Any] | Rejection:
    """One JSON object with its labels and metadata lifted to the top, as in a CSV."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Rejection("bad-row", f"not JSON: {error}")
    if not isinstance(fields, dict):
        return Rejection("bad-row", f"a JSON object is needed, this is a {type(fields).__name__}")
    return lift(fields)


def lift(fields: dict[str, Any]) -> dict[str, Any] | Rejection:
    """``labels: {mood: x}`` becomes ``label.mood: x``; the content of ``metadata`` moves up.

    A name in the metadata that is also a field's stays apart, as ``metadata.NAME``.
    """
    labels, metadata = fields.pop("labels", None) or {}, fields.pop("metadata", None) or {}
    if not isinstance(labels, dict) or not isinstance(metadata, dict):
        return Rejection("bad-row", "labels and metadata must be objects")
    apart = {*FIELDS, *ALTERNATIVES} - {"language"}
    moved = {
        METADATA_PREFIX + name if name in apart else name: value for name, value in metadata.items()
    }
    lifted = {LABEL_PREFIX + str(name): value for name, value in labels.items()}
    return {**moved, **fields, **lifted}


def tidy_language(tag: str) -> str:
    """``pt_BR`` -> ``pt-br``; what has not the shape of a language tag stays as it is."""
    plain = tag.strip().replace("_", "-")
    return plain.lower() if LANGUAGE_TAG.fullmatch(plain) else tag


def _record(fields: Mapping[str, Any], number: int, columns: Mapping[str, str]) -> Record:
    """Makes the record.

    Raises:
        ValueError: A value of the wrong type (UnicodeError: not UTF-8).
    """
    rest = dict(fields)
    # Two of our names may be mapped to one column: nothing is removed before all are read.
    renamed = {name: rest.get(column) for name, column in columns.items()}
    for column in columns.values():
        rest.pop(column, None)
    rest.update(renamed)
    parts = {modality: _parts(rest, modality) for modality in MODALITIES}
    named = {name: _text_or_none(rest.pop(name, None), name) for name in ("id", "split")}
    labels = {
        name.removeprefix(LABEL_PREFIX): _text_or_none(rest[name], name)
        for name in sorted(rest)
        if name.startswith(LABEL_PREFIX)
    }
    record = Record(
        id=named["id"] or f"row-{number}",
        **{modality: found[0] for modality, found in parts.items() if found},
        alternatives={
            f"{modality}.{place}": part
            for modality, found in parts.items()
            for place, part in enumerate(found[1:], start=1)
        },
        split=named["split"] or DEFAULT_SPLIT,
        labels={name: value for name, value in labels.items() if value is not None},
        metadata=_metadata(rest),
    )
    _check_encodable(record)
    return record


def _parts(rest: dict[str, Any], modality: str) -> list[Any]:
    """All texts (pictures, recordings) of a row, the main one first, none of them twice.

    They come as ``text``, which may be a list, and as ``text.1``, ``text.2`` ...; taken out of
    `rest`.

    Raises:
        ValueError: A value of the wrong type, or too many.
    """
    main = rest.pop(modality, None)
    values = list(main) if isinstance(main, list | tuple) else [main]
    values += [rest.pop(f"{modality}.{n}", None) for n in range(1, MAX_ALTERNATIVES + 1)]
    parts = [_written(value) if modality == "text" else _medium(value) for value in values]
    found = list(dict.fromkeys(part for part in parts if part is not None))
    if len(found) > MAX_ALTERNATIVES + 1:
        most = MAX_ALTERNATIVES + 1
        raise ValueError(f"it has {len(found)} of {modality}, a sample holds at most {most}")
    return found


def _metadata(rest: Mapping[str, Any]) -> dict[str, Any]:
    """All values that are no field and no label; empty ones are left out."""
    found = {
        name.removeprefix(METADATA_PREFIX): _plain(value)
        for name, value in rest.items()
        if not name.startswith(LABEL_PREFIX) and value not in (None, "")
    }
    language = found.get("language")
    if isinstance(language, str):
        found["language"] = tidy_language(language)
    return found


def _plain(value: object) -> object:
    """A value that JSON can hold; dates and decimals become text.

    Raises:
        ValueError: Raw bytes that are no text.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _medium(value: object) -> Medium | None:
    if isinstance(value, Medium):
        return value
    path = _text_or_none(value, "a path of image or audio")
    return Medium(path=path) if path else None


def _written(value: object) -> str | None:
    """A text without the blanks around it; None where nothing is left."""
    return (_text_or_none(value, "text") or "").strip(BLANKS) or None


def _text_or_none(value: object, name: str) -> str | None:
    """A text, a number as text, or None for nothing."""
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"{name} is a {type(value).__name__}, not a text or a number")


def _check_encodable(record: Record) -> None:
    """Refuses half characters and NaN, which no shard can hold."""
    record.card()
    parts = (record.text, record.image, record.audio, *record.alternatives.values())
    texts = [part.path if isinstance(part, Medium) else part or "" for part in parts]
    for text in (record.split, *texts):
        text.encode("utf-8")
