"""Sample numbers -> bytes: one positioned read each, every part's CRC32 checked."""

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate, groupby

from data_sharding.checksum import crc32
from data_sharding.manifest import ShardEntry, ShardSet
from data_sharding.reading.config import ReaderConfig, ReaderCounters, Tally
from data_sharding.reading.open_shards import OpenShard, OpenShards, Place, stem_of
from data_sharding.reading.tars import Cell
from data_sharding.reading.watch import watched_slot
from data_sharding.schema import Buffer, RawSample, SampleFault, ShardError
from data_sharding.storage import is_remote

__all__ = ["ReaderConfig", "ReaderCounters", "ShardReader"]


class ShardReader:
    """Reads samples of one or more shard sets by number; those of several sets follow on.

    Opens shards when they are first needed and keeps the ones used last: at most 128 descriptors,
    and 128 MiB of indexes beside those of the open shards. Picklable: a copy opens its own. For
    one thread at a time.
    """

    def __init__(
        self, sets: ShardSet | Sequence[ShardSet], config: ReaderConfig | None = None
    ) -> None:
        self.sets = (sets,) if isinstance(sets, ShardSet) else tuple(sets)
        self.config = config or ReaderConfig()
        self._places = tuple(
            Place(folder=_plain(shard_set.location), entry=entry)
            for shard_set in self.sets
            for entry in shard_set.shards
        )
        sizes = [place.entry.samples for place in self._places]
        self._first_sample = array("q", accumulate(sizes, initial=0))
        self._any_remote = any(is_remote(place) for place in {p.folder for p in self._places})
        self._start()

    def __getstate__(self) -> dict[str, object]:
        fresh = ("_slot", "_tally", "_shards")
        return {name: value for name, value in self.__dict__.items() if name not in fresh}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start()

    def __len__(self) -> int:
        return self._first_sample[-1]

    def locate(self, sample_id: int) -> tuple[ShardEntry, str]:
        """The shard that holds a sample, and the sample's key.

        Raises:
            IndexError: The sets have no such sample.
        """
        number, row = self._find(sample_id)
        entry = self._places[number].entry
        return entry, f"{stem_of(entry)}-{row:06d}"

    def location_of(self, sample_id: int) -> str:
        """Where the shard that holds a sample is: a path or a URL.

        Raises:
            IndexError: The sets have no such sample.
        """
        return self._places[self._find(sample_id)[0]].location

    def read(self, sample_id: int, suffixes: Collection[str] | None = None) -> RawSample:
        """Reads one sample.

        Args:
            sample_id: Number of the sample in the sets, from 0.
            suffixes: Read only these members; None reads all that the allow-list knows.

        Raises:
            SampleFault: This sample's bytes are broken or cut off; others can be read.
            ShardError: The shard cannot be had, its index is not its own, or nothing is left.
            IndexError: The sets have no such sample.
        """
        number, row = self._find(sample_id)
        shard = self._shards.get(number)
        start, cells = shard.rows.cells(row)
        if suffixes is not None:
            cells = [cell for cell in cells if cell[3] in suffixes]
        key = f"{shard.stem}-{row:06d}"
        members: dict[str, memoryview] | None = {}
        if cells:
            first, last = start + cells[0][0], start + cells[-1][0] + cells[-1][1]
            members = _split(self._read_span(shard, first, last, key), cells)
            if members is None:
                members = self._read_again(shard, start, cells, key)
        return RawSample(shard=shard.file, key=key, sample_id=sample_id, members=members)

    def prefetch(self, sample_ids: Iterable[int]) -> None:
        """Starts to fetch samples of remote shards and returns at once; local ones need none.

        Args:
            sample_ids: What will be read soon, in any order.
        """
        if not self._any_remote:
            return
        places = sorted(self._find(sample_id) for sample_id in sample_ids)
        for number, group in groupby(places, key=lambda place: place[0]):
            self._shards.fetch_ahead(number, [row for _, row in group])

    def counters(self) -> ReaderCounters:
        """What this reader has done in this process."""
        return self._tally.counts()

    def close(self) -> None:
        """Closes every open shard; a later read opens what it needs again."""
        self._shards.close()

    def __del__(self) -> None:
        if "_shards" in self.__dict__:
            self.close()

    def _start(self) -> None:
        """Makes what belongs to one process."""
        self._slot = watched_slot(self.config.stuck_seconds)
        self._tally = Tally()
        self._shards = OpenShards(self._places, self.config, self._tally, self._slot)

    def _find(self, sample_id: int) -> tuple[int, int]:
        """Number of the shard that holds a sample, and the sample's row there."""
        if not 0 <= sample_id < self._first_sample[-1]:
            names = ", ".join(shard_set.location for shard_set in self.sets)
            raise IndexError(f"{names} has {len(self)} samples, not {sample_id}")
        number = bisect_right(self._first_sample, sample_id) - 1
        return number, sample_id - self._first_sample[number]

    def _read_span(self, shard: OpenShard, start: int, stop: int, key: str) -> Buffer:
        """Bytes of a tar.

        Raises:
            SampleFault: The tar ends before them.
            ShardError: They cannot be had after all tries.
        """
        if stop > shard.tar.bytes:
            raise _cut_off(shard, key, stop)
        self._slot.doing = (shard.location, start)
        try:
            span = shard.tar.read(start, stop)
        except OSError as error:
            raise ShardError(
                f"{shard.location}: reading {key} at byte {start} failed after "
                f"{self.config.retry.attempts} tries ({error.strerror or error})"
            ) from error
        finally:
            self._slot.doing = None
        if len(span) != stop - start:
            self._shards.drop(shard)
            raise _cut_off(shard, key, stop)
        return span

    def _read_again(
        self, shard: OpenShard, start: int, cells: list[Cell], key: str
    ) -> dict[str, memoryview]:
        """Reads a sample whose CRC32 failed once more, past copies that may be broken.

        Raises:
            SampleFault: It is broken where it is stored; names the first broken member.
            ShardError: As `_read_span`.
        """
        first, last = start + cells[0][0], start + cells[-1][0] + cells[-1][1]
        if shard.tar.forget(first, last):
            members = _split(self._read_span(shard, first, last, key), cells)
            if members is not None:
                return members
        for offset, length, expected, suffix in cells:
            place = start + offset
            if crc32(self._read_span(shard, place, place + length, key)) != expected:
                reason = (
                    f"its {length} bytes from byte {place} on do not match their CRC32; the shard "
                    "was altered, copy it again or shard the corpus again"
                )
                raise SampleFault(shard.location, key, suffix, reason)
        raise SampleFault(shard.location, key, "", "it changed while it was read")


def _split(span: Buffer, cells: list[Cell]) -> dict[str, memoryview] | None:
    """Suffix -> content, or None where a CRC32 does not match; the contents share the span."""
    view = memoryview(span)
    base = cells[0][0]
    members = {}
    for offset, length, expected, suffix in cells:
        content = view[offset - base : offset - base + length]
        if crc32(content) != expected:
            return None
        members[suffix] = content
    return members


def _plain(location: str) -> str:
    """A local path without the scheme that it may be given with."""
    return location.removeprefix("file://")


def _cut_off(shard: OpenShard, key: str, stop: int) -> SampleFault:
    reason = f"cut off: the shard ends before byte {stop}; copy it again or shard the corpus again"
    return SampleFault(shard.location, key, "", reason)
