"""The members of a tar, from its headers alone: content is skipped, nothing is extracted.

Reads what is found in the wild: ustar, GNU long names, pax headers (WebDataset's own TarWriter
makes them for its float mtimes). The standard library's `tarfile` stops without a word at garbage
and loops on negative sizes; here every such place is an error that names the byte.
"""

import os
import re
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from data_sharding.schema import ShardError

BLOCK = 512
MAX_EXTENSION_BYTES = 1 << 20
"""A long name or pax header larger than this is refused: it would be read into memory."""

SIGNED = struct.Struct("148b8x356b")
"""Some old tars sum their headers as signed bytes."""

PAX_RECORD = re.compile(rb"(\d{1,8}) ([^=\n]{1,200})=")
GNU_SPARSE = tarfile.GNUTYPE_SPARSE
LONG_NAME = tarfile.GNUTYPE_LONGNAME
LONG_LINK = tarfile.GNUTYPE_LONGLINK
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
KINDS = {
    tarfile.LNKTYPE: "hard link",
    tarfile.SYMTYPE: "symbolic link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.DIRTYPE: "folder",
    tarfile.FIFOTYPE: "fifo",
    GNU_SPARSE: "sparse file",
}
"""What is no regular file; such members are counted and never used."""


class TarEntry(NamedTuple):
    """One member of a tar.

    Attributes:
        name: As the tar has it, not checked in any way; text, never a path.
        kind: ``file``, or what else it is.
        header: Byte where its headers begin.
        start: Byte where its content begins.
        length: Bytes of content.
    """

    name: str
    kind: str
    header: int
    start: int
    length: int

    @property
    def stop(self) -> int:
        """Byte after the content's padding, where the next header begins."""
        return self.start + padded(self.length)


@dataclass
class Extensions:
    """What headers before a member's own say about it."""

    header: int
    name: str | None = None
    size: int | None = None
    sparse: bool = False


class Header(NamedTuple):
    """What one header block says: the fields that matter here."""

    name: str
    type: bytes
    size: int


def parse_header(block: bytes) -> Header:
    """A header block's fields, as ``tarfile.TarInfo.frombuf`` has them, in a third of its time.

    Raises:
        ValueError: Its checksum or its size is wrong.
    """
    total = 256 + sum(block[:148]) + sum(block[156:])  # the checksum counts as eight blanks
    stored = _number(block[148:156])
    if stored != total and stored != 256 + sum(SIGNED.unpack(block)):
        raise ValueError("bad checksum")
    kind = block[156:157]
    name = _text(block[:100])
    if kind == tarfile.AREGTYPE and name.endswith("/"):
        kind = tarfile.DIRTYPE  # how tars before POSIX mark a folder
    if kind == tarfile.DIRTYPE:
        name = name.rstrip("/")
    if block[345] and kind not in tarfile.GNU_TYPES:
        name = f"{_text(block[345:500])}/{name}"
    return Header(name, kind, _number(block[124:136]))


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary form for what they cannot hold."""
    if field[0] == 0o200:
        return int.from_bytes(field[1:], "big")
    if field[0] == 0o377:
        return int.from_bytes(field, "big", signed=True)
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def padded(length: int) -> int:
    """`length` rounded up to whole blocks."""
    return -(-length // BLOCK) * BLOCK


def walk_headers(file: BinaryIO, name: str) -> Iterator[TarEntry]:
    """Every member in order; after one whose content is cut off comes the error.

    Args:
        file: A seekable tar, not compressed.
        name: The tar's name, for messages.

    Raises:
        ShardError: The tar is empty, cut off, has no end mark, or holds garbage; names the byte.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise ShardError(f"{name}: empty file, no tar; fetch or make it again")
    position, pending, shared = 0, Extensions(header=0), Extensions(header=0)
    while (header := _read_header(file, name, position, size)) is not None:
        position += BLOCK
        if header.type in (LONG_NAME, LONG_LINK, *PAX, tarfile.XGLTYPE):
            content = _read_extension(file, name, position, header.size, size)
            target = shared if header.type == tarfile.XGLTYPE else pending
            _extend(target, header.type, content, f"{name}: byte {position}")
            position += padded(header.size)
            continue
        entry = _entry(header, pending, shared, _content_start(file, header, position))
        yield entry
        if entry.length < 0 or entry.start + entry.length > size:
            raise ShardError(
                f"{name}: ends at byte {size}, within {entry.name!r} (bytes {entry.start} to "
                f"{entry.start + entry.length}); the tar is cut off, fetch or make it again"
            )
        position = entry.stop
        pending = Extensions(header=position)
    _refuse_trailing_bytes(file, name, position)


def _read_header(file: BinaryIO, name: str, position: int, size: int) -> Header | None:
    """The header at a byte; None at the end mark."""
    file.seek(position)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        raise ShardError(
            f"{name}: ends at byte {size} without the end mark of a tar; it is cut off, fetch or "
            "make it again"
        )
    if not any(block):
        return None
    try:
        return parse_header(block)
    except ValueError as error:
        what = "is no tar" if position == 0 else "holds garbage"
        advice = "; a compressed tar must be unpacked first" if position == 0 else ""
        raise ShardError(f"{name}: {what}: no valid header at byte {position}{advice}") from error


def _read_extension(file: BinaryIO, name: str, position: int, length: int, size: int) -> bytes:
    if not 0 <= length <= MAX_EXTENSION_BYTES or position + length > size:
        raise ShardError(
            f"{name}: an extended header at byte {position - BLOCK} claims {length} bytes; the tar "
            "is cut off or altered"
        )
    return file.read(length)


def _extend(target: Extensions, kind: bytes, content: bytes, place: str) -> None:
    """Takes over a long name, or the records of a pax header that matter here."""
    if kind == LONG_NAME:
        target.name = content.rstrip(b"\0").decode("utf-8", "surrogateescape")
    elif kind != LONG_LINK:
        for keyword, value in _pax_records(content, place):
            _take_record(target, keyword, value, place)


def _pax_records(content: bytes, place: str) -> Iterator[tuple[bytes, bytes]]:
    """Records of length, blank, keyword, ``=``, value and newline; the length counts all of it."""
    at = 0
    while at < len(content) and content[at] != 0:
        found = PAX_RECORD.match(content, at)
        stop = at + int(found.group(1)) if found else 0
        if found is None or not found.end() < stop <= len(content):
            raise ShardError(f"{place}: a broken pax header; the tar was altered")
        yield found.group(2), content[found.end() : stop - 1]
        at = stop


def _take_record(target: Extensions, keyword: bytes, value: bytes, place: str) -> None:
    if keyword == b"path":
        target.name = value.decode("utf-8", "surrogateescape")
    elif keyword == b"size":
        if not value.isdigit() or len(value) > 18:
            raise ShardError(f"{place}: a pax header with the size {value[:40]!r}")
        target.size = int(value)
    elif keyword.startswith(b"GNU.sparse."):
        target.sparse = True


def _content_start(file: BinaryIO, header: Header, position: int) -> int:
    """Where content begins: old GNU sparse files have more blocks of header."""
    if header.type != GNU_SPARSE:
        return position
    file.seek(position - BLOCK)
    more = file.read(BLOCK)[482] != 0
    while more:
        block = file.read(BLOCK)
        more = len(block) == BLOCK and block[504] != 0
        position += BLOCK
    return position


def _entry(header: Header, pending: Extensions, shared: Extensions, start: int) -> TarEntry:
    name = pending.name or shared.name or header.name
    sparse = pending.sparse or shared.sparse
    kind = "sparse file" if sparse else KINDS.get(header.type, "file")
    if kind == "file" and header.type not in tarfile.REGULAR_TYPES:
        kind = "special file"
    size = next(size for size in (pending.size, shared.size, header.size) if size is not None)
    # As tarfile has it: links, devices and folders carry no content, whatever their size says.
    bare = header.type in KINDS and header.type != GNU_SPARSE
    return TarEntry(name, kind, pending.header, start, 0 if bare else size)


def _refuse_trailing_bytes(file: BinaryIO, name: str, position: int) -> None:
    """Readers stop at the end mark: samples of a second tar behind it would be lost silently."""
    file.seek(position)
    while piece := file.read(1 << 20):
        if piece.count(0) != len(piece):
            at = position + len(piece) - len(piece.lstrip(b"\0"))
            raise ShardError(
                f"{name}: holds garbage, or a second tar, at byte {at} behind its end mark; "
                "make it again, or split it"
            )
        position += len(piece)
