"""One open shard: ranges of its tar, by descriptor or over the network, and its index's rows."""

import errno
import logging
import os
import stat
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt32

from data_sharding.index import ShardIndex
from data_sharding.reading.config import Tally
from data_sharding.reading.remote import RemoteFile, RemoteStorage
from data_sharding.retry import RetryConfig, retrying
from data_sharding.schema import PARTS, Buffer

LOGGER = logging.getLogger(__name__)

Cell = tuple[int, int, int, str]
"""Where one part lies: offset within the sample, length, CRC32, suffix."""

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


@runtime_checkable
class Tar(Protocol):
    """A tar that is open for reading.

    Attributes:
        bytes: How much of it is there.
    """

    bytes: int

    def read(self, start: int, stop: int) -> Buffer:
        """Bytes `start` to `stop`; fewer where the tar ends earlier.

        Raises:
            OSError: After all tries.
        """
        ...

    def forget(self, start: int, stop: int) -> bool:
        """Drops a copy of a range that turned out to be broken; False where there is none."""
        ...

    def close(self) -> None:
        """Gives back what the open tar holds."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalAccess:
    """How local files are opened.

    Attributes:
        retry: How often a failed call is tried again.
        tally: Counts that, and the bytes.
        make_room: Closes another open shard; False where there is none.
    """

    retry: RetryConfig
    tally: Tally
    make_room: Callable[[], bool]

    def retried(self, action: Callable[[], int], what: str) -> int:
        """Calls `action` until it succeeds."""
        return retrying(action, what, self.retry, self.tally.retried)

    def open(self, path: str) -> int:
        """A descriptor of a regular file; other shards are closed while there are too many.

        Raises:
            OSError: Also for a file that is none: a FIFO or a folder would never end.
        """
        while True:
            try:
                descriptor = os.open(path, os.O_RDONLY)
                break
            except OSError as error:
                if error.errno not in OUT_OF_DESCRIPTORS or not self.make_room():
                    raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "is no regular file", path)
        return descriptor

    def read_whole(self, path: str) -> bytes:
        """A small file's bytes, with all tries."""

        def attempt() -> bytes:
            with os.fdopen(self.open(path), "rb") as file:
                return file.read()

        return retrying(attempt, path, self.retry, self.tally.retried)


class LocalTar:
    """A tar on a mounted file system.

    Raises:
        OSError: It cannot be opened, after all tries.
    """

    def __init__(self, path: str, access: LocalAccess) -> None:
        self._path = path
        self._access = access
        self._descriptor = access.retried(lambda: access.open(path), path)
        self.bytes = os.fstat(self._descriptor).st_size

    def read(self, start: int, stop: int) -> Buffer:
        """As `Tar.read`."""
        try:
            content = os.pread(self._descriptor, stop - start, start)
        except OSError as error:
            if self._access.retry.attempts == 1:
                raise
            content = self._read_again(error, start, stop)
        self._access.tally.local_bytes += len(content)
        return content if len(content) == stop - start else self._read_on(content, start, stop)

    def forget(self, start: int, stop: int) -> bool:
        """As `Tar.forget`: there is no copy."""
        return False

    def close(self) -> None:
        """As `Tar.close`."""
        os.close(self._descriptor)

    def _read_on(self, content: bytes, start: int, stop: int) -> bytes:
        """The rest of a read that was cut short, which is not always the end of the file."""
        found = [content]
        while content:
            start += len(content)
            content = os.pread(self._descriptor, stop - start, start)
            found.append(content)
        return b"".join(found)

    def _read_again(self, error: OSError, start: int, stop: int) -> bytes:
        """Opens the file anew before each further try: a stale NFS handle stays stale."""

        def attempt() -> bytes:
            fresh = self._access.open(self._path)
            os.dup2(fresh, self._descriptor, inheritable=False)
            os.close(fresh)
            return os.pread(self._descriptor, stop - start, start)

        what = f"{self._path} at byte {start}"
        LOGGER.warning("%s: reading failed (%s); opening it again", what, error)
        self._access.tally.retried()
        left = replace(self._access.retry, attempts=self._access.retry.attempts - 1)
        return retrying(attempt, what, left, self._access.tally.retried)


class RemoteTar:
    """A tar on an object store or web server.

    Raises:
        OSError: Its size cannot be had, after all tries.
    """

    def __init__(self, location: str, sha256: str, storage: RemoteStorage) -> None:
        self._storage = storage
        self.bytes = storage.size(location)
        self.file = RemoteFile(location=location, sha256=sha256, bytes=self.bytes)

    def read(self, start: int, stop: int) -> Buffer:
        """As `Tar.read`."""
        return self._storage.read(self.file, start, min(stop, self.bytes))

    def forget(self, start: int, stop: int) -> bool:
        """As `Tar.forget`: what the cache or the network gave was broken."""
        self._storage.drop(self.file, start, stop)
        return True

    def close(self) -> None:
        """As `Tar.close`: nothing is held."""


class Rows:
    """A shard index packed row by row, so that one row is read in less than a microsecond.

    Takes the index's own 8 + 12 P bytes a sample, and no object for a row that is not read.
    """

    def __init__(self, index: ShardIndex) -> None:
        columns = [column for column, suffix in enumerate(index.parts) if suffix in PARTS]
        self._suffixes = tuple(index.parts[column] for column in columns)
        table = np.empty((len(index), len(columns), 3), dtype="<u4")
        for place, part in enumerate((index.part_offsets, index.part_lengths, index.part_crc32)):
            table[:, :, place] = part[:, columns]
        self._table = table.tobytes()
        self._row = struct.Struct(f"<{3 * len(columns)}I")
        self._starts = array("Q", index.sample_offsets.tobytes())
        self._in_order = _in_order(table[:, :, 0], table[:, :, 1])
        self.bytes = len(self._table) + 8 * len(self._starts)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def cells(self, row: int) -> tuple[int, list[Cell]]:
        """Where a sample starts, and its parts in the order of the tar.

        Parts of a suffix that the allow-list does not know are left out.
        """
        numbers = iter(self._row.unpack_from(self._table, row * self._row.size))
        found = zip(numbers, numbers, numbers, self._suffixes, strict=True)
        cells = [cell for cell in found if cell[1]]
        if not self._in_order:
            cells.sort()
        return self._starts[row], cells

    def whole_samples(self, bytes_there: int) -> int:
        """How many samples have all their content within the tar's first bytes."""
        table = np.frombuffer(self._table, "<u4").reshape(len(self), len(self._suffixes), 3)
        lengths = table[:, :, 1].astype(np.int64)
        ends = np.where(lengths > 0, table[:, :, 0] + lengths, 0).max(axis=1, initial=0)
        starts = np.array(self._starts[:-1], dtype=np.int64)
        return int((starts + ends <= bytes_there).sum())


def _in_order(
    offsets: UInt32[np.ndarray, "sample part"], lengths: UInt32[np.ndarray, "sample part"]
) -> bool:
    """Whether every sample's parts lie in the order of their columns."""
    if (lengths > 0).all():
        return bool((offsets[:, 1:] >= offsets[:, :-1]).all())
    latest = np.maximum.accumulate(np.where(lengths > 0, offsets, 0), axis=1)
    return bool((latest == np.where(lengths > 0, offsets, latest)).all())
