"""Corpus rows as lines of JSON: what the plan writes and every task reads."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from data_sharding.schema import Medium, Record, Rejection, canonical_json


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a corpus: a record, or why there is none.

    Attributes:
        number: Line (JSONL), record (CSV, Parquet) or sample (folder, tars) of the corpus, from 1;
            a CSV header is 0.
        content: The record, or the rejection that took its place.
    """

    number: int
    content: Record | Rejection


def encode_row(row: Row) -> bytes:
    """One line of canonical JSON, its end included; equal rows give equal bytes.

    Raises:
        ValueError: A text that UTF-8 cannot hold; no source makes such a record.
    """
    if isinstance(row.content, Rejection):
        detail = row.content.detail.encode("utf-8", "replace").decode("utf-8")
        content: dict[str, Any] = {"reject": {"reason": row.content.reason, "detail": detail}}
    else:
        record = {name: value for name, value in asdict(row.content).items() if value is not None}
        if not record["alternatives"]:
            del record["alternatives"]
        content = {"record": record}
    return canonical_json({"number": row.number, **content}) + b"\n"


def decode_row(line: bytes) -> Row:
    """The row of a line that `encode_row` made."""
    content = json.loads(line)
    if "reject" in content:
        return Row(number=content["number"], content=Rejection(**content["reject"]))
    fields = content["record"]
    media = {name: Medium(**fields[name]) for name in ("image", "audio") if name in fields}
    alternatives = {
        name: part if isinstance(part, str) else Medium(**part)
        for name, part in fields.get("alternatives", {}).items()
    }
    record = Record(**{**fields, **media, "alternatives": alternatives})
    return Row(number=content["number"], content=record)
