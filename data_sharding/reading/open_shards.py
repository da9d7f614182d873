"""The shards that a reader holds open, bounded in descriptors and in bytes of indexes."""

import logging
import re
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from data_sharding.index import decode_index
from data_sharding.manifest import ShardEntry
from data_sharding.reading.config import ReaderConfig, Tally
from data_sharding.reading.remote import Piece, RemoteStorage
from data_sharding.reading.tars import LocalAccess, LocalTar, RemoteTar, Rows, Tar
from data_sharding.reading.watch import Slot
from data_sharding.schema import ShardError
from data_sharding.storage import is_remote, join

LOGGER = logging.getLogger(__name__)

MAX_OPEN = 128
"""Tars held open at once; fewer where the process may not have as many."""

INDEX_BYTES = 128 << 20
"""Indexes kept for shards that are open or were: 2.4 million samples of four parts."""

SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A shard of one of the reader's sets: where it is, and what the manifest says of it."""

    folder: str
    entry: ShardEntry

    @property
    def location(self) -> str:
        """Where the tar is."""
        return join(self.folder, self.entry.file)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenShard:
    """A tar and its index's rows.

    Attributes:
        number: Its place among the reader's shards.
        location: Where the tar is.
        file: The tar's name.
        stem: What its samples' keys begin with.
        tar: The open tar.
        rows: The index.
    """

    number: int
    location: str
    file: str
    stem: str
    tar: Tar
    rows: Rows


class OpenShards:
    """Opens shards when they are needed and keeps the ones used last.

    Args:
        places: Every shard that may be asked for.
        config: Retries, cache and patience.
        tally: Where retries and remote reads are counted.
        slot: What this thread is at, for the watchdog.
    """

    def __init__(
        self, places: Sequence[Place], config: ReaderConfig, tally: Tally, slot: Slot
    ) -> None:
        self._places = places
        self._config = config
        self._tally = tally
        self._slot = slot
        self._access = LocalAccess(retry=config.retry, tally=tally, make_room=self._close_oldest)
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._rows: OrderedDict[int, Rows] = OrderedDict()
        self._rows_bytes = 0
        self._opening: dict[int, Future[OpenShard]] = {}
        self._storage: RemoteStorage | None = None
        self._warned: set[int] = set()

    def get(self, number: int) -> OpenShard:
        """An open shard.

        Raises:
            ShardError: It cannot be had after all tries, its index is not its own, or nothing is
                left of it.
        """
        shard = self._open.get(number)
        if shard is not None:
            self._open.move_to_end(number)
            return shard
        opening = self._opening.pop(number, None)
        if opening:
            shard = opening.result()
        else:
            self._slot.doing = (self._places[number].location, 0)
            try:
                shard = self._opened(number)
            finally:
                self._slot.doing = None
        self._keep(number, shard)
        return shard

    def fetch_ahead(self, number: int, wanted: Sequence[int]) -> None:
        """Starts to fetch samples of a remote shard; does nothing for a local one.

        Args:
            number: The shard.
            wanted: Rows of samples.
        """
        if not is_remote(self._places[number].location):
            return
        if number in self._open:
            self._fetch_rows(self._open[number], wanted)
        elif number not in self._opening:
            pool = self._remote().pool
            self._opening[number] = pool.submit(self._open_and_fetch, number, wanted)

    def drop(self, shard: OpenShard) -> None:
        """Closes a shard that is not what it was; the next `get` looks at it anew."""
        if self._open.pop(shard.number, None):
            shard.tar.close()

    def close(self) -> None:
        """Closes every tar and drops what was fetched ahead; `get` opens anew."""
        while self._close_oldest():
            pass
        self._opening.clear()
        if self._storage:
            self._storage.close()

    def _keep(self, number: int, shard: OpenShard) -> None:
        self._open[number] = shard
        if number not in self._rows:
            self._rows[number] = shard.rows
            self._rows_bytes += shard.rows.bytes
        self._rows.move_to_end(number)
        if len(self._open) > MAX_OPEN:
            self._close_oldest()
        while self._rows_bytes > INDEX_BYTES and len(self._rows) > 1:
            self._rows_bytes -= self._rows.popitem(last=False)[1].bytes

    def _close_oldest(self) -> bool:
        """Closes the shard that was not used for longest; False where none is open."""
        if not self._open:
            return False
        self._open.popitem(last=False)[1].tar.close()
        return True

    def _opened(self, number: int) -> OpenShard:
        """Opens a tar and its index, and checks that they and the manifest belong together."""
        place = self._places[number]
        if not SHA256.fullmatch(place.entry.sha256):
            raise ShardError(f"{place.location}: its sha256 in the manifest is none")
        rows = self._rows.get(number)
        try:
            if rows is None:
                rows = self._read_rows(place)
            tar = self._open_tar(place)
        except OSError as error:
            raise ShardError(
                f"{place.location}: cannot be opened ({_reason(error)}) after "
                f"{self._config.retry.attempts} tries; check that its storage is mounted and "
                "that it may be read"
            ) from error
        try:
            self._check_size(number, rows, tar)
        except ShardError:
            tar.close()
            raise
        return OpenShard(
            number=number,
            location=place.location,
            file=place.entry.file,
            stem=stem_of(place.entry),
            tar=tar,
            rows=rows,
        )

    def _open_tar(self, place: Place) -> Tar:
        if is_remote(place.location):
            return RemoteTar(place.location, place.entry.sha256, self._remote())
        return LocalTar(place.location, self._access)

    def _read_rows(self, place: Place) -> Rows:
        location = join(place.folder, place.entry.index_file)
        if not is_remote(location):
            return _checked_rows(self._access.read_whole(location), location, place.entry)
        storage = self._remote()
        content = storage.index_bytes(location, place.entry.sha256)
        try:
            return _checked_rows(content, location, place.entry)
        except ShardError:
            storage.drop_index(place.entry.sha256)  # once more, past the cache
            content = storage.index_bytes(location, place.entry.sha256)
            return _checked_rows(content, location, place.entry)

    def _check_size(self, number: int, rows: Rows, tar: Tar) -> None:
        """A tar that was cut off loses samples, which is said once; one with none left is broken.

        Raises:
            ShardError: No sample is left, or the tar is longer than the one that was indexed.
        """
        place = self._places[number]
        promised = place.entry.bytes
        if tar.bytes == promised:
            return
        what = f"{place.location}: {tar.bytes} bytes where its index says {promised}"
        if tar.bytes > promised:
            raise ShardError(f"{what}; it is another file than the one that was indexed")
        lost = len(rows) - rows.whole_samples(tar.bytes)
        advice = "copy the shard again or shard the corpus again"
        if lost == len(rows):
            raise ShardError(f"{what}; all {lost} samples are cut off; {advice}")
        if number not in self._warned:
            self._warned.add(number)
            LOGGER.warning("%s; %d of %d samples are cut off; %s", what, lost, len(rows), advice)

    def _open_and_fetch(self, number: int, wanted: Sequence[int]) -> OpenShard:
        shard = self._opened(number)
        self._fetch_rows(shard, wanted)
        return shard

    def _fetch_rows(self, shard: OpenShard, wanted: Sequence[int]) -> None:
        assert isinstance(shard.tar, RemoteTar)
        spans = (span_of(shard.rows, row) for row in wanted)
        there = [span for span in spans if span[0] < span[1] <= shard.tar.bytes]
        self._remote().fetch_ahead(shard.tar.file, there)

    def _remote(self) -> RemoteStorage:
        if self._storage is None:
            self._storage = RemoteStorage(self._config, self._tally)
        return self._storage


def stem_of(entry: ShardEntry) -> str:
    """``shard-000003.tar`` has keys like 000003-000012; a foreign ``dogs.tar`` keeps its name."""
    return entry.file.removeprefix("shard-").removesuffix(".tar")


def span_of(rows: Rows, row: int) -> Piece:
    """First byte of a sample's content, and the one after its last."""
    start, cells = rows.cells(row)
    if not cells:
        return start, start
    return start + cells[0][0], start + cells[-1][0] + cells[-1][1]


def _checked_rows(content: bytes, location: str, entry: ShardEntry) -> Rows:
    index = decode_index(content, location)
    same = index.tar_sha256.hex() == entry.sha256 and index.tar_bytes == entry.bytes
    if not same or len(index) != entry.samples:
        raise ShardError(f"{location}: belongs to another shard set than manifest.json")
    return Rows(index)


def _reason(error: OSError) -> str:
    """What a system call or a backend says, with the file's name where it is another."""
    if error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return str(error)
