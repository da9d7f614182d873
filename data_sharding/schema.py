"""What one text-image-audio sample holds, and the errors of this package."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODALITIES: tuple[str, ...] = ("text", "image", "audio")
"""The one canonical order; the columns of every ``present`` tensor follow it."""

MAIN_PARTS: Mapping[str, str] = {
    "txt": "text",
    "jpg": "image",
    "png": "image",
    "webp": "image",
    "flac": "audio",
    "wav": "audio",
    "ogg": "audio",
    "mp3": "audio",
    "json": "card",
}
"""Suffix of a tar member -> the modality it holds; ``card`` is the JSON (id, labels, metadata)."""

MAX_ALTERNATIVES = 6
"""Further texts, pictures or recordings of one thing that a sample may hold of each modality."""

PARTS: Mapping[str, str] = {
    **MAIN_PARTS,
    **{
        f"{place}.{suffix}": f"{modality}.{place}"
        for place in range(1, MAX_ALTERNATIVES + 1)
        for suffix, modality in MAIN_PARTS.items()
        if modality in MODALITIES
    },
}
"""Allow-list of tar member suffixes, in the order of writing -> what each one holds.

``KEY.1.txt`` holds ``text.1``, the first alternative to ``KEY.txt``: a second caption, the same in
another language. WebDataset gives it as the field ``1.txt``. Nothing else is ever decoded.
"""

ALTERNATIVES: tuple[str, ...] = tuple(
    f"{modality}.{place}" for modality in MODALITIES for place in range(1, MAX_ALTERNATIVES + 1)
)
"""Names of all alternatives: ``text.1``, ``text.2`` ... ``audio.6``."""

ALIASES: Mapping[str, str] = {"jpeg": "jpg", "text": "txt", "caption": "txt", "oga": "ogg"}
"""Other names of the same parts in foreign tars; compared in lower case."""

DEFAULT_SPLIT = "train"
"""Split of a sample whose corpus names none."""

Buffer = bytes | bytearray | memoryview


class ShardError(Exception):
    """A broken shard, index or shard set; the message names the file and what to do."""


class SampleFault(ShardError):  # noqa: N818 - a verdict on a sample
    """One sample that cannot be had while its shard can: the stream takes another in its place.

    Attributes:
        shard: Location of the shard.
        key: The sample's key.
        member: Suffix of the broken member, or an empty text where it is the whole sample.
        reason: What is wrong, in words.
    """

    def __init__(self, shard: str, key: str, member: str, reason: str) -> None:
        super().__init__(shard, key, member, reason)  # so that it can be pickled
        self.shard = shard
        self.key = key
        self.member = member
        self.reason = reason

    def __str__(self) -> str:
        name = f"{self.key}.{self.member}" if self.member else self.key
        return f"{self.shard}: {name}: {self.reason}"


class DecodeError(Exception):
    """One medium that cannot be decoded; the message is the reason, without the sample's name."""


class Rejection(Exception):  # noqa: N818 - a verdict on a row, not an error of the program
    """One corpus row that is left out.

    Attributes:
        reason: Short name that rows are counted under, such as ``missing-file``.
        detail: What was found, in words.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True)
class Medium:
    """Where one medium's bytes lie in a corpus.

    Attributes:
        path: A file (or a foreign tar) relative to the corpus's root.
        start: First byte inside that file; None for the whole file.
        length: Number of bytes; None for the whole file.
    """

    path: str
    start: int | None = None
    length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One sample as a corpus describes it: text in place, media by reference."""

    id: str
    text: str | None = None
    image: Medium | None = None
    audio: Medium | None = None
    split: str = DEFAULT_SPLIT
    labels: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    alternatives: Mapping[str, str | Medium] = field(default_factory=dict)
    """Name of `ALTERNATIVES` -> a text in place, or a medium by reference."""

    def card(self) -> bytes:
        """The sample's JSON member: id, labels, metadata; the same bytes for the same values.

        Raises:
            ValueError: A value that JSON or UTF-8 cannot hold (NaN, a lone surrogate).
        """
        content = {"id": self.id, "labels": dict(self.labels), "metadata": dict(self.metadata)}
        return canonical_json(content)


@dataclass(frozen=True, kw_only=True)
class RawSample:
    """One sample's bytes as they lie in a shard.

    Attributes:
        shard: File name of the shard, for messages.
        key: WebDataset key, ``000000-000012`` (shard, row).
        sample_id: Number of the sample in its shard set (or split), from 0.
        members: Suffix (a key of `PARTS`) -> bytes; a missing modality has no entry.
    """

    shard: str
    key: str
    sample_id: int
    members: Mapping[str, Buffer]


def canonical_json(content: object) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces, so that equal content has equal bytes.

    Raises:
        ValueError: NaN, infinity or a lone surrogate in the content.
    """
    text = json.dumps(
        content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return text.encode("utf-8")


def modality_of(part: str) -> str:
    """The modality of a part, alternative or not: ``text.2`` -> ``text``."""
    return part.partition(".")[0]


def tidy_suffix(suffix: str) -> str:
    """A suffix in lower case, other names of our kinds replaced: ``1.JPEG`` -> ``1.jpg``."""
    lower = suffix.lower()
    place, dot, kind = lower.rpartition(".")
    renamed = place + dot + ALIASES.get(kind, kind)
    return renamed if renamed in PARTS else lower


def modalities_of(suffixes: Mapping[str, object]) -> tuple[str, ...]:
    """The modalities that a sample's members cover, in canonical order."""
    held = {PARTS[suffix] for suffix in suffixes if suffix in PARTS}
    return tuple(name for name in MODALITIES if name in held)
