"""The .idx format: where every part of every sample lies in a tar, with its CRC32.

::

    magic 8 | u32 version | u32 P parts | u64 N samples | u64 tar_bytes | 32B sha256(tar)
    part-name table: P names of 8 bytes each, zero-padded ASCII
    u64 sample_off[N+1] | u32 part_off[N][P] | u32 part_len[N][P] (0 = absent)
    u32 part_crc32[N][P] | 32B sha256(all bytes before)

Little-endian. Sample i lies in bytes sample_off[i] to sample_off[i+1] of the tar, headers and
padding included; part_off counts from sample_off[i] to the first byte of the part's content.
An empty part counts as absent, so writers leave it out.
"""

import hashlib
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt32, UInt64

from data_sharding.schema import MODALITIES, PARTS, ShardError

MAGIC = b"TRIPIDX\0"
VERSION = 1
HEADER = struct.Struct("<8sIIQQ32s")
NAME_BYTES = 8
DIGEST_BYTES = 32
MAX_PARTS = 64


@dataclass(frozen=True, kw_only=True)
class PartRange:
    """One part's content in the tar: absolute first byte, length and checksum."""

    suffix: str
    start: int
    length: int
    crc32: int


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """Byte ranges and checksums of one shard's samples.

    Attributes:
        parts: Member suffix of each column.
        tar_bytes: Size of the tar.
        tar_sha256: Digest of the tar, 32 bytes.
        sample_offsets: Byte where each sample starts, and where the last one ends.
        part_offsets: Start of each part's content, counted from its sample's start.
        part_lengths: Bytes of content; 0 means that the part is absent.
        part_crc32: zlib's CRC32 of each part's content.
    """

    parts: tuple[str, ...]
    tar_bytes: int
    tar_sha256: bytes
    sample_offsets: UInt64[np.ndarray, "bound"]
    part_offsets: UInt32[np.ndarray, "sample part"]
    part_lengths: UInt32[np.ndarray, "sample part"]
    part_crc32: UInt32[np.ndarray, "sample part"]

    def __len__(self) -> int:
        return len(self.sample_offsets) - 1

    def parts_of(self, row: int, suffixes: Collection[str]) -> list[PartRange]:
        """Where the wanted parts of a sample lie, in the order of the tar."""
        start = int(self.sample_offsets[row])
        found = [
            PartRange(suffix=suffix, start=start + offset, length=length, crc32=crc32)
            for suffix, offset, length, crc32 in zip(
                self.parts,
                self.part_offsets[row].tolist(),
                self.part_lengths[row].tolist(),
                self.part_crc32[row].tolist(),
                strict=True,
            )
            if length and suffix in suffixes
        ]
        return sorted(found, key=lambda part: part.start)

    def present(self) -> dict[str, int]:
        """Modality -> number of samples that have it, without those that no sample has."""
        held = {
            modality: (self.part_lengths[:, self._columns(modality)] > 0).any(axis=1).sum()
            for modality in MODALITIES
        }
        return {modality: int(count) for modality, count in held.items() if count}

    def combinations(self) -> dict[str, int]:
        """Modalities of a sample, such as ``text + image`` -> number of such samples."""
        held = [
            (self.part_lengths[:, self._columns(modality)] > 0).any(axis=1)
            for modality in MODALITIES
        ]
        codes = sum(column.astype(np.int64) << bit for bit, column in enumerate(held))
        found = np.bincount(codes, minlength=2 ** len(MODALITIES)).tolist()
        return {
            " + ".join(name for bit, name in enumerate(MODALITIES) if code >> bit & 1) or "none": n
            for code, n in enumerate(found)
            if n
        }

    def _columns(self, modality: str) -> list[int]:
        return [at for at, part in enumerate(self.parts) if PARTS.get(part) == modality]


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One sample's part of an index.

    Attributes:
        start: Byte of the tar where the sample's first header begins.
        parts: Suffix -> first byte of its content in the tar, length, CRC32.
    """

    start: int
    parts: Mapping[str, tuple[int, int, int]]


def build_index(rows: Sequence[IndexRow], stop: int, tar: tuple[int, bytes]) -> ShardIndex:
    """The index of a tar.

    Args:
        rows: Every sample, in the order of the tar.
        stop: Byte where the last sample ends.
        tar: Size of the tar in bytes, and its sha256.
    """
    suffixes = tuple(suffix for suffix in PARTS if any(suffix in row.parts for row in rows))
    table = np.zeros((3, len(rows), len(suffixes)), dtype=np.uint32)
    for number, row in enumerate(rows):
        for suffix, (start, length, crc32) in row.parts.items():
            table[:, number, suffixes.index(suffix)] = start - row.start, length, crc32
    return ShardIndex(
        parts=suffixes,
        tar_bytes=tar[0],
        tar_sha256=tar[1],
        sample_offsets=np.array([*(row.start for row in rows), stop], dtype=np.uint64),
        part_offsets=table[0],
        part_lengths=table[1],
        part_crc32=table[2],
    )


def encode_index(index: ShardIndex) -> bytes:
    """The file's bytes for `index`."""
    head = HEADER.pack(
        MAGIC, VERSION, len(index.parts), len(index), index.tar_bytes, index.tar_sha256
    )
    names = b"".join(name.encode("ascii").ljust(NAME_BYTES, b"\0") for name in index.parts)
    tables = (
        index.sample_offsets.astype("<u8").tobytes(),
        index.part_offsets.astype("<u4").tobytes(),
        index.part_lengths.astype("<u4").tobytes(),
        index.part_crc32.astype("<u4").tobytes(),
    )
    body = b"".join((head, names, *tables))
    return body + hashlib.sha256(body).digest()


def read_index(path: Path) -> ShardIndex:
    """Reads and checks an index file.

    Raises:
        ShardError: Missing, truncated, altered, of another version, or with impossible ranges.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ShardError(f"{path}: the shard's index cannot be read ({error.strerror})") from error
    return decode_index(content, str(path))


def decode_index(content: bytes, name: str) -> ShardIndex:
    """Decodes the bytes of an index file; `name` is for messages.

    Raises:
        ShardError: As `read_index`.
    """
    if len(content) < HEADER.size + DIGEST_BYTES or content[:8] != MAGIC:
        raise ShardError(f"{name}: not a shard index (no TRIPIDX header); shard the corpus again")
    _, version, num_parts, num_samples, tar_bytes, sha256 = HEADER.unpack_from(content)
    if version != VERSION:
        raise ShardError(f"{name}: index version {version}, this program reads {VERSION}")
    cells = num_samples * num_parts
    expected = HEADER.size + NAME_BYTES * num_parts + 8 * (num_samples + 1) + 12 * cells
    if num_parts > MAX_PARTS or len(content) != expected + DIGEST_BYTES:
        raise ShardError(
            f"{name}: {len(content)} bytes where {num_samples} samples of {num_parts} parts need "
            f"{expected + DIGEST_BYTES}; the index is truncated or altered, shard the corpus again"
        )
    if hashlib.sha256(content[:expected]).digest() != content[expected:]:
        raise ShardError(f"{name}: its sha256 does not match; the index was altered")
    return _check_ranges(_tables(content, (num_parts, num_samples, tar_bytes, sha256)), name)


def _tables(content: bytes, head: tuple[int, int, int, bytes]) -> ShardIndex:
    num_parts, num_samples, tar_bytes, sha256 = head
    at = HEADER.size + NAME_BYTES * num_parts
    names = [
        content[start : start + NAME_BYTES].rstrip(b"\0").decode("ascii", "replace")
        for start in range(HEADER.size, at, NAME_BYTES)
    ]
    offsets = np.frombuffer(content, "<u8", num_samples + 1, at)
    at += offsets.nbytes
    cells = np.frombuffer(content, "<u4", 3 * num_samples * num_parts, at)
    columns = cells.reshape(3, num_samples, num_parts)
    return ShardIndex(
        parts=tuple(names),
        tar_bytes=tar_bytes,
        tar_sha256=sha256,
        sample_offsets=offsets,
        part_offsets=columns[0],
        part_lengths=columns[1],
        part_crc32=columns[2],
    )


def _check_ranges(index: ShardIndex, name: str) -> ShardIndex:
    """Refuses ranges that leave their sample or the tar, whatever the digest says."""
    starts = index.sample_offsets
    spans = np.diff(starts.astype(np.int64))
    ends = index.part_offsets.astype(np.int64) + index.part_lengths
    inside = index.tar_bytes < 2**62 and bool(starts[-1] <= index.tar_bytes)
    if not inside or (spans <= 0).any() or (ends > spans[:, None]).any():
        raise ShardError(f"{name}: byte ranges outside the shard; the index is not of this tar")
    return index
