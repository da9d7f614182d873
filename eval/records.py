"""JSON files that other programs rely on: written whole or not at all, and never with NaN."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_sharding.durable import write_durably

Json = dict[str, Any]


def to_json_text(record: Mapping[str, Any]) -> str:
    """Canonical text of a record: fixed indentation, order of insertion, no NaN.

    Raises:
        ValueError: The record holds NaN or an infinity; names the place.
    """
    _refuse_non_finite(record, "")
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record atomically: a reader sees the old file or the new one, never a part."""
    write_text(path, to_json_text(record))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically (temporary sibling, fsync, ``os.replace``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text.encode())


def read_json(path: Path) -> Json:
    """Read one JSON object.

    Raises:
        ValueError: The file is absent, no JSON, or holds something else than an object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(record).__name__}")
    return record


def flatten(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Leaves of a nested record as (dotted name, value)."""
    rows: list[tuple[str, Any]] = []
    for key, value in record.items():
        if isinstance(value, Mapping):
            rows += flatten(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _refuse_non_finite(value: object, place: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place or 'record'} is {value}; JSON has no such number")
    if isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_non_finite(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_finite(item, f"{place}[{index}]")
