"""One pass over a file for its sha256 and for the CRC32 of chosen ranges."""

import hashlib
import zlib
from typing import BinaryIO, cast

from data_sharding.schema import ShardError

PIECE_BYTES = 1 << 20


class HashedFile:
    """A file read once from front to end; memory stays at one piece of a megabyte.

    Args:
        file: Open for reading at its first byte.
        name: The file's name, for messages.

    Attributes:
        position: Bytes read so far.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.position = 0
        self._file = file
        self._name = name
        self._sha256 = hashlib.sha256()
        self._buffer = memoryview(bytearray(PIECE_BYTES))

    def crc32(self, start: int, length: int) -> int:
        """Checksum of a range that begins where the last one ended, or later.

        Raises:
            ShardError: The file ends within the range.
        """
        assert start >= self.position
        self._pass(start - self.position)
        return self._pass(length)

    def read(self, length: int) -> bytes:
        """The next bytes, at most a megabyte; fewer where the file ends."""
        found = b""
        while len(found) < length and (piece := self._piece(length - len(found))):
            found += piece
        return found

    def finish(self) -> tuple[int, bytes]:
        """Reads the rest; returns the file's size and sha256."""
        while self._piece(PIECE_BYTES):
            pass
        return self.position, self._sha256.digest()

    def _pass(self, length: int) -> int:
        crc32 = 0
        while length:
            piece = self._piece(length)
            if not piece:
                raise ShardError(f"{self._name}: ends at byte {self.position}; it is cut off")
            crc32 = zlib.crc32(piece, crc32)
            length -= len(piece)
        return crc32

    def _piece(self, length: int) -> memoryview:
        # typing's BinaryIO lacks readinto, which every binary file has.
        count = cast(int, self._file.readinto(self._buffer[:length]))  # pyright: ignore[reportAttributeAccessIssue]
        piece = self._buffer[:count]
        self._sha256.update(piece)
        self.position += count
        return piece
