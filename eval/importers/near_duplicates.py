"""Clusters of samples that share a picture or a text, so that no split parts them."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

_MENTIONS = re.compile(r"https?://\S+|@\w+|^rt\b")
_PUNCTUATION = re.compile(r"[\W_]+")


def cluster(samples: Sequence[tuple[str, str, Path]]) -> dict[str, str]:
    """Group of each sample: the first id among all that it is linked to.

    Two samples are linked when their pictures have equal bytes, or when their texts are equal
    after addresses, user names, "RT", case and punctuation are taken away. Links are transitive.

    Args:
        samples: (id, text, picture file), ids unique.

    Raises:
        ValueError: An id occurs twice.
    """
    parent: dict[str, str] = {}
    first_with: dict[tuple[str, str], str] = {}
    for sample_id, text, image in samples:
        if sample_id in parent:
            raise ValueError(f"id {sample_id!r} occurs twice")
        parent[sample_id] = sample_id
        for key in _fingerprints(text, image):
            _join(parent, first_with.setdefault(key, sample_id), sample_id)
    return {sample_id: _root(parent, sample_id) for sample_id in parent}


def _fingerprints(text: str, image: Path) -> list[tuple[str, str]]:
    words = _PUNCTUATION.sub(" ", _MENTIONS.sub(" ", text.lower())).strip()
    keys = [("image", hashlib.sha256(image.read_bytes()).hexdigest())]
    return [*keys, ("text", words)] if words else keys


def _root(parent: dict[str, str], name: str) -> str:
    while parent[name] != name:
        parent[name] = parent[parent[name]]
        name = parent[name]
    return name


def _join(parent: dict[str, str], earlier: str, later: str) -> None:
    """Link two trees; the earlier root stays the root."""
    parent[_root(parent, later)] = _root(parent, earlier)
