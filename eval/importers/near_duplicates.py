"""Clusters of samples that share a medium or a text, so that no split parts them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eval.importers.rows import LabelledRow

_MENTIONS = re.compile(r"https?://\S+|@\w+|^rt\b")
_PUNCTUATION = re.compile(r"[\W_]+")


def with_clusters(rows: Sequence[LabelledRow], texts: bool) -> list[LabelledRow]:
    """The rows with one group for each cluster: what is linked, or of one group already.

    Two rows are linked when a medium of theirs has equal bytes.

    Args:
        rows: Ids unique; a row without a group is its own.
        texts: Whether equal texts link as well, after addresses, user names, "RT", case and
            punctuation are taken away.

    Raises:
        ValueError: An id occurs twice.
    """
    parent: dict[str, str] = {}
    first_with: dict[tuple[str, str], str] = {}
    for row in rows:
        if row.row_id in parent:
            raise ValueError(f"id {row.row_id!r} occurs twice")
        parent[row.row_id] = row.row_id
        for key in _fingerprints(row, texts):
            _join(parent, first_with.setdefault(key, row.row_id), row.row_id)
    return [replace(row, group=_root(parent, row.row_id)) for row in rows]


def _fingerprints(row: LabelledRow, texts: bool) -> list[tuple[str, str]]:
    keys = [("medium", _digest(path)) for path in row.media]
    if row.group is not None:
        keys.append(("group", row.group))
    words = _PUNCTUATION.sub(" ", _MENTIONS.sub(" ", (row.text or "").lower())).strip()
    return [*keys, ("text", words)] if texts and words else keys


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _root(parent: dict[str, str], name: str) -> str:
    while parent[name] != name:
        parent[name] = parent[parent[name]]
        name = parent[name]
    return name


def _join(parent: dict[str, str], earlier: str, later: str) -> None:
    """Link two trees; the earlier root stays the root."""
    parent[_root(parent, later)] = _root(parent, earlier)
