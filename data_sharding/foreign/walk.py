"""The samples of a foreign WebDataset tar, from its headers alone.

Members are grouped as WebDataset does: the key is the path up to the first dot of the base name,
the suffix is the rest in lower case. Members whose suffix is not in `PARTS` are counted and never
touched (``.pkl``, ``.npy``, links, devices). Where WebDataset would stream a partial or mixed
sample, the sample comes with a fault, under one of these reasons:

- ``duplicate-key``: the same key with the same parts came before; the first one is kept.
- ``split-sample``: the same key with other parts comes elsewhere in the tar; which parts belong
  together cannot be told, so none of its samples is kept.
- ``two-of-a-kind``: two members for one modality, such as ``k.jpg`` and ``k.png``.
- ``empty-sample``: no member with content that the allow-list knows.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from data_sharding.foreign.headers import TarEntry, walk_headers
from data_sharding.schema import MAIN_PARTS, PARTS, Rejection, ShardError, tidy_suffix

NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)
"""Key and suffix: the key ends at the first dot of the base name."""

META = re.compile(r"__[^/]*__($|/)")
"""WebDataset skips such names."""

MAX_KINDS = 64
"""Kinds of ignored members that are counted by name; the others are counted together."""


class TarMember(NamedTuple):
    """Where a member's content lies in its tar."""

    name: str
    """The member's name in the tar: text for messages, never a path."""
    start: int
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TarSample:
    """One sample of a foreign tar.

    Attributes:
        key: WebDataset's key; text, never a path.
        members: Suffix (a key of `PARTS`) -> where it lies, in the order of the tar.
        fault: Why the sample cannot be used; None where it can.
        start: Byte where its first header begins.
        stop: Byte after its last member's padding.
    """

    key: str
    members: Mapping[str, TarMember]
    fault: Rejection | None
    start: int
    stop: int


@dataclass(slots=True)
class Piece:
    """Adjacent members of one key, no suffix twice."""

    key: str
    members: dict[str, TarMember]
    start: int
    stop: int

    @property
    def names(self) -> str:
        """Member names for a message."""
        return ", ".join(repr(member.name) for member in self.members.values())


def walk_samples(
    file: BinaryIO, name: str, ignored: Counter[str] | None = None
) -> Iterator[TarSample]:
    """Every sample of a tar in order, faulty ones with their fault.

    Walks the whole tar first, because a later member can make an earlier sample faulty; holds
    about 1 KB a sample of this one tar meanwhile.

    Args:
        file: A seekable tar, not compressed.
        name: The tar's name, for messages.
        ignored: Kind of member (a suffix, or a word such as ``symbolic link``) -> number of
            members that were passed over; counted up.

    Raises:
        ShardError: The tar is cut off or holds garbage; raised after the whole samples before it.
    """
    pieces, broken = _collect(file, name, Counter() if ignored is None else ignored)
    by_key: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_key[piece.key].append(piece)
    for piece in pieces:
        yield TarSample(
            key=piece.key,
            members=piece.members,
            fault=_find_fault(piece, by_key[piece.key]),
            start=piece.start,
            stop=piece.stop,
        )
    if broken is not None:
        raise broken


def split_name(name: str) -> tuple[str, str] | None:
    """WebDataset's key and suffix (lower case, `ALIASES` applied) of a member; None if it has none.

    ``a/b.c/k.0.TXT`` is key ``a/b.c/k`` with the suffix ``0.txt``.
    """
    found = NAME.fullmatch(name)
    if found is None or META.match(name):
        return None
    return found.group(1), tidy_suffix(found.group(2))


def _collect(
    file: BinaryIO, name: str, ignored: Counter[str]
) -> tuple[list[Piece], ShardError | None]:
    """All pieces of a tar; where it is broken, those before the one that the break may concern."""
    pieces: list[Piece] = []
    try:
        for entry in walk_headers(file, name):
            _take(entry, pieces, ignored)
    except ShardError as error:
        return pieces[:-1], ShardError(f"{error} ({len(pieces[:-1])} samples come before)")
    return pieces, None


def _take(entry: TarEntry, pieces: list[Piece], ignored: Counter[str]) -> None:
    """Adds a member to the last piece, or begins a new one."""
    split = split_name(entry.name) if entry.kind == "file" else None
    if split is None:
        _count(ignored, "no sample's name" if entry.kind == "file" else entry.kind)
        return
    key, suffix = split
    if not pieces or pieces[-1].key != key or suffix in pieces[-1].members:
        pieces.append(Piece(key=key, members={}, start=entry.header, stop=entry.stop))
    piece = pieces[-1]
    piece.stop = entry.stop
    if suffix in PARTS:
        piece.members[suffix] = TarMember(entry.name, entry.start, entry.length)
    else:
        _count(ignored, f".{suffix}")


def _count(ignored: Counter[str], kind: str) -> None:
    ignored[kind if kind in ignored or len(ignored) < MAX_KINDS else "other"] += 1


def _find_fault(piece: Piece, same_key: Sequence[Piece]) -> Rejection | None:
    if len(same_key) > 1:
        fault = _find_repetition(piece, same_key)
        if fault is not None:
            return fault
    if not any(piece.members[suffix].length for suffix in piece.members if suffix in MAIN_PARTS):
        return Rejection("empty-sample", f"{piece.key!r}: no member of a known kind")
    modalities: dict[str, str] = {}
    for suffix, member in piece.members.items():
        other = modalities.setdefault(PARTS[suffix], member.name)
        if other != member.name:
            what = f"{other!r} and {member.name!r} are both {PARTS[suffix]}"
            return Rejection("two-of-a-kind", what)
    return None


def _find_repetition(piece: Piece, same_key: Sequence[Piece]) -> Rejection | None:
    if any(other.members.keys() != piece.members.keys() for other in same_key):
        other = next(other for other in same_key if other is not piece)
        return Rejection(
            "split-sample",
            f"the key {piece.key!r} comes {len(same_key)} times with different parts: "
            f"{piece.names} at byte {piece.start}, {other.names} at byte {other.start}",
        )
    first = same_key[0]
    if first is piece:
        return None
    return Rejection(
        "duplicate-key",
        f"{piece.names} at byte {piece.start} repeats {first.names} at byte {first.start}",
    )
