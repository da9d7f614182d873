"""Samples -> one ustar shard and its index, checksummed in the same pass.

The tar is plain ustar with mtime, uid and gid 0, so that equal samples give equal bytes and any
tar or WebDataset reader can read it.
"""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from data_sharding.checksum import crc32
from data_sharding.durable import publish, temporary_name, write_durably
from data_sharding.index import ShardIndex, encode_index
from data_sharding.manifest import ShardEntry, sum_counts
from data_sharding.schema import PARTS, modalities_of

BLOCK = 512
MAX_PART_BYTES = 8**11 - 1
END_OF_ARCHIVE = bytes(2 * BLOCK)
WRITE_BYTES = 1 << 19
"""Bytes of samples that are hashed and written at once."""


def _template() -> tuple[bytes, bytes, bytes, int]:
    """What all headers share: after the name, after the size, after the checksum; and their sum."""
    after_name = b"%07o\0%07o\0%07o\0" % (0o644, 0, 0)  # mode, uid, gid
    after_size = b"%011o\0" % 0  # mtime
    after_checksum = b"".join(
        (
            b"0".ljust(101, b"\0"),  # regular file, no link name
            b"ustar".ljust(6, b"\0"),
            b"00".ljust(66, b"\0"),  # version; no user or group name
            bytes(183),  # no device numbers, no name prefix; padding
        )
    )
    blanks = 8 * ord(" ")  # the checksum field, as blanks while summing
    return (
        after_name,
        after_size,
        after_checksum,
        sum(after_name + after_size + after_checksum) + blanks,
    )


AFTER_NAME, AFTER_SIZE, AFTER_CHECKSUM, FIXED_SUM = _template()
PADDING = tuple(bytes(count) for count in range(BLOCK))


def ustar_header(name: str, size: int) -> bytes:
    """The 512-byte header of a regular file (POSIX.1-1988 ustar).

    Raises:
        ValueError: The name is not 1 to 100 ASCII characters, or the size has over 11 octal digits.
    """
    encoded = name.encode("ascii")
    if not 1 <= len(encoded) <= 100 or not 0 <= size <= MAX_PART_BYTES:
        raise ValueError(f"{name!r} with {size} bytes does not fit a ustar header")
    digits = b"%011o\0" % size
    checksum = b"%06o\0 " % (FIXED_SUM + sum(encoded) + sum(digits))
    padded = encoded.ljust(100, b"\0")
    return b"".join((padded, AFTER_NAME, digits, AFTER_SIZE, checksum, AFTER_CHECKSUM))


def size_in_tar(members: Mapping[str, bytes]) -> int:
    """Bytes that members take in a tar, headers and padding included."""
    return sum(BLOCK + len(part) + -len(part) % BLOCK for part in members.values() if part)


class ShardWriter:
    """Writes one shard under a temporary name; `publish` makes it appear whole, or not at all.

    Args:
        scratch: Folder for the temporary file, on the same file system as the final one.
        number: The shard's number, which its name and its samples' keys begin with.
    """

    def __init__(self, scratch: Path, number: int) -> None:
        self.name = f"shard-{number:06d}"
        self._number = number
        self._temporary = temporary_name(scratch / f"{self.name}.tar")
        self._file = self._temporary.open("wb", buffering=0)
        self._sha256 = hashlib.sha256()
        # One thread that hashes a piece while the next one is gathered and written.
        self._hasher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sha256")
        self._hashing: Future[None] | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._position = 0
        self._starts: list[int] = []
        self._rows: list[dict[str, tuple[int, int, int]]] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hasher.shutdown()
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, members: Mapping[str, bytes]) -> str:
        """Appends a sample and returns its key.

        Args:
            members: Suffix (of `PARTS`) -> content; an empty content counts as absent.
        """
        key = f"{self._number:06d}-{len(self._rows):06d}"
        start = self._position
        row: dict[str, tuple[int, int, int]] = {}
        for suffix, content in members.items():
            if suffix not in PARTS:
                raise ValueError(f"{key}.{suffix}: not one of {', '.join(PARTS)}")
            if content:
                header = ustar_header(f"{key}.{suffix}", len(content))
                offset = self._position + BLOCK - start
                row[suffix] = (offset, len(content), crc32(content))
                self._write(header, content, PADDING[-len(content) % BLOCK])
        if not row:
            raise ValueError(f"{key}: a sample needs at least one member")
        self._starts.append(start)
        self._rows.append(row)
        return key

    def publish(self, folder: Path, split: str) -> ShardEntry:
        """Ends the archive, makes it durable, and renames tar and index into `folder`."""
        bounds = np.array([*self._starts, self._position], dtype=np.uint64)
        self._write(END_OF_ARCHIVE)
        self._flush()
        self._hasher.shutdown()
        os.fsync(self._file.fileno())
        self._file.close()
        index = self._index(bounds)
        publish(self._temporary, folder / f"{self.name}.tar")
        write_durably(folder / f"{self.name}.idx", encode_index(index))
        counts = [dict.fromkeys(modalities_of(row), 1) for row in self._rows]
        return ShardEntry(
            file=f"{self.name}.tar",
            split=split,
            samples=len(self._rows),
            bytes=self._position,
            sha256=index.tar_sha256.hex(),
            present=sum_counts(counts),
        )

    def _index(self, bounds: np.ndarray) -> ShardIndex:
        parts = tuple(suffix for suffix in PARTS if any(suffix in row for row in self._rows))
        cells = [[row.get(suffix, (0, 0, 0)) for suffix in parts] for row in self._rows]
        table = np.array(cells, dtype=np.uint32).reshape(len(self._rows), len(parts), 3)
        return ShardIndex(
            parts=parts,
            tar_bytes=self._position,
            tar_sha256=self._sha256.digest(),
            sample_offsets=bounds,
            part_offsets=table[:, :, 0],
            part_lengths=table[:, :, 1],
            part_crc32=table[:, :, 2],
        )

    def _write(self, *pieces: bytes) -> None:
        """Keeps pieces until there are enough of them for one large write."""
        size = sum(map(len, pieces))
        self._pending += pieces
        self._pending_bytes += size
        self._position += size
        if self._pending_bytes >= WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        content = memoryview(b"".join(self._pending))
        self._pending, self._pending_bytes = [], 0
        if self._hashing:
            self._hashing.result()
        self._hashing = self._hasher.submit(self._sha256.update, content)
        while content:  # a raw file may take less than it is given
            content = content[self._file.write(content) :]
