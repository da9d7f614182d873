"""Byte ranges of remote shards: fetched ahead in a few large requests, kept in the node's cache.

With a cache, a shard is cut into pieces of 1 MiB, and a request fetches neighbouring missing pieces
of one 8 MiB stretch; all processes of a node share what it brings. Without one, exactly the wanted
bytes are fetched, and neighbouring samples that are asked for together share a request.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby

from data_sharding.reading.cache import NodeCache
from data_sharding.reading.config import ReaderConfig, Tally
from data_sharding.reading.daemon_pool import DaemonPool
from data_sharding.reading.watch import watching
from data_sharding.retry import retrying
from data_sharding.schema import Buffer
from data_sharding.storage import read_bytes, size

PIECE_BYTES = 1 << 20
REQUEST_BYTES = 8 << 20
GAP_BYTES = 1 << 16
"""Without a cache, two samples this close are fetched together with what lies between."""

NUM_THREADS = 16
AHEAD_BYTES = 256 << 20
"""What may be fetched ahead; of more, the oldest is given up and fetched when it is read."""

Piece = tuple[int, int]
"""First byte, and the one after the last."""

Fetched = Mapping[Piece, Buffer]


@dataclass(frozen=True)
class RemoteFile:
    """A remote tar: where it is, its sha256, and how many bytes of it are there."""

    location: str
    sha256: str
    bytes: int


class RemoteStorage:
    """Reads ranges of remote tars; safe to use from several threads.

    Args:
        config: Retries, cache and patience.
        tally: Where bytes, hits, misses and retries are counted.
    """

    def __init__(self, config: ReaderConfig, tally: Tally) -> None:
        self._config = config
        self._tally = tally
        self._cache = (
            NodeCache(config.cache_folder, config.cache_bytes) if config.cache_folder else None
        )
        self._lock = threading.Lock()
        self._ahead: OrderedDict[tuple[str, Piece], Future[Fetched]] = OrderedDict()
        self._ahead_bytes = 0
        self.pool = DaemonPool(NUM_THREADS, "fetch")

    def size(self, location: str) -> int:
        """Size of a remote file.

        Raises:
            OSError: After all tries.
        """
        with watching(self._config.stuck_seconds, location, 0):
            return retrying(
                lambda: size(location), location, self._config.retry, self._tally.retried
            )

    def index_bytes(self, location: str, sha256: str) -> bytes:
        """A shard's index, which the cache keeps too.

        Raises:
            OSError: After all tries.
        """
        name = f"{sha256}-index"
        cached = self._cache.read(name) if self._cache else None
        if cached is not None:
            return cached
        with watching(self._config.stuck_seconds, location, 0):
            content = retrying(
                lambda: read_bytes(location), location, self._config.retry, self._tally.retried
            )
        self._tally.add(bytes_read=len(content))
        if self._cache:
            self._cache.store(name, content)
        return content

    def drop_index(self, sha256: str) -> None:
        """Forgets a cached index that is broken."""
        if self._cache:
            self._cache.drop(f"{sha256}-index")

    def read(self, file: RemoteFile, start: int, stop: int) -> Buffer:
        """Bytes `start` to `stop` of a tar, both inside it.

        Raises:
            OSError: After all tries.
        """
        found = [
            self._part(file, piece, (max(start, piece[0]), min(stop, piece[1])))
            for piece in self._pieces(file, start, stop)
        ]
        return found[0] if len(found) == 1 else b"".join(found)

    def drop(self, file: RemoteFile, start: int, stop: int) -> None:
        """Forgets what is kept of a range, because it turned out to be broken."""
        for piece in self._pieces(file, start, stop):
            self._take_ahead(file, piece)
            if self._cache:
                self._cache.drop(_name(file, piece))

    def fetch_ahead(self, file: RemoteFile, ranges: Iterable[Piece]) -> None:
        """Starts to fetch ranges of a tar and returns at once."""
        pieces = sorted({piece for span in ranges for piece in self._pieces(file, *span)})
        with self._lock:
            new = [piece for piece in pieces if not self._coming(file, piece)]
            for request in self._requests(new):
                future = self.pool.submit(self._request, file, request)
                for piece in request:
                    self._ahead[file.sha256, piece] = future
                    self._ahead_bytes += piece[1] - piece[0]
            while self._ahead_bytes > AHEAD_BYTES:
                (_, piece), _ = self._ahead.popitem(last=False)
                self._ahead_bytes -= piece[1] - piece[0]

    def close(self) -> None:
        """Gives up what was not read yet."""
        self.pool.close()
        with self._lock:
            self._ahead.clear()
            self._ahead_bytes = 0

    def _aligned(self) -> bool:
        """Whether whole pieces are fetched, because the cache takes them."""
        return self._cache is not None and self._cache.storing

    def _pieces(self, file: RemoteFile, start: int, stop: int) -> list[Piece]:
        """What is fetched as a whole to have a range."""
        if not self._aligned():
            return [(start, stop)]
        firsts = range(start // PIECE_BYTES * PIECE_BYTES, stop, PIECE_BYTES)
        return [(first, min(first + PIECE_BYTES, file.bytes)) for first in firsts]

    def _requests(self, pieces: list[Piece]) -> Iterator[list[Piece]]:
        """Cuts sorted pieces into what one request each fetches."""
        for _, stretch in groupby(pieces, key=lambda piece: piece[0] // REQUEST_BYTES):
            request: list[Piece] = []
            for piece in stretch:
                if request and piece[0] > request[-1][1] + GAP_BYTES:
                    yield request
                    request = []
                request.append(piece)
            yield request

    def _coming(self, file: RemoteFile, piece: Piece) -> bool:
        """Whether a piece is on its way or there."""
        if (file.sha256, piece) in self._ahead:
            return True
        return self._aligned() and self._cache is not None and self._cache.has(_name(file, piece))

    def _part(self, file: RemoteFile, piece: Piece, wanted: Piece) -> Buffer:
        """A part of a piece: from what was fetched ahead, from the cache, or fetched now."""
        future = self._take_ahead(file, piece)
        fetched = future.result() if future else {}
        low, high = wanted[0] - piece[0], wanted[1] - piece[0]
        if not future and (kept := self._kept(file, piece, low, high)) is not None:
            self._tally.add(hits=1)
            return kept
        if not future:
            fetched = self._request(file, [piece])
        if piece in fetched:
            return memoryview(fetched[piece])[low:high]
        if (kept := self._kept(file, piece, low, high)) is not None:
            return kept
        if self._cache and self._cache.has(_name(file, piece)):
            self._cache.drop(_name(file, piece))  # cut short, as by a loss of power
        return self._fetch(file, *wanted)

    def _take_ahead(self, file: RemoteFile, piece: Piece) -> "Future[Fetched] | None":
        with self._lock:
            future = self._ahead.pop((file.sha256, piece), None)
            if future:
                self._ahead_bytes -= piece[1] - piece[0]
        return future

    def _kept(self, file: RemoteFile, piece: Piece, low: int, high: int) -> bytes | None:
        if not self._cache or piece[0] % PIECE_BYTES:
            return None
        return self._cache.read(_name(file, piece), low, high)

    def _request(self, file: RemoteFile, pieces: list[Piece]) -> Fetched:
        """Fetches pieces in one request; returns those that the cache did not take."""
        cache = self._cache
        if cache is None or not self._aligned():
            return self._split(file, pieces)
        stretch = (pieces[0][0] // REQUEST_BYTES * REQUEST_BYTES, 0)
        with cache.filling(_name(file, stretch)):
            missing = [piece for piece in pieces if not cache.has(_name(file, piece))]
            self._tally.add(hits=len(pieces) - len(missing))
            if not missing:
                return {}
            fetched = self._split(file, missing)
            return {
                piece: content
                for piece, content in fetched.items()
                if not cache.store(_name(file, piece), content)
            }

    def _split(self, file: RemoteFile, pieces: list[Piece]) -> Mapping[Piece, memoryview]:
        first, last = pieces[0][0], pieces[-1][1]
        content = memoryview(self._fetch(file, first, last))
        self._tally.add(misses=len(pieces))
        return {piece: content[piece[0] - first : piece[1] - first] for piece in pieces}

    def _fetch(self, file: RemoteFile, start: int, stop: int) -> bytes:
        """One ranged read over the network, tried again where it fails."""

        def attempt() -> bytes:
            content = read_bytes(file.location, start, stop)
            if len(content) != stop - start:
                raise OSError(f"{len(content)} bytes came instead of {stop - start}")
            return content

        what = f"{file.location} at byte {start}"
        with watching(self._config.stuck_seconds, file.location, start):
            content = retrying(attempt, what, self._config.retry, self._tally.retried)
        self._tally.add(bytes_read=len(content))
        return content


def _name(file: RemoteFile, piece: Piece) -> str:
    return f"{file.sha256}-{piece[0] // PIECE_BYTES:08d}"
