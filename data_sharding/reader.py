"""Sample numbers -> bytes: one positioned read each, every part's CRC32 checked."""

import os
import zlib
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from data_sharding.index import ShardIndex, read_index
from data_sharding.manifest import ShardEntry, ShardSet
from data_sharding.schema import PARTS, RawSample, ShardError

MAX_OPEN_SHARDS = 64
"""Tars kept open at once, with their indexes; bounds descriptors and memory."""


@dataclass(frozen=True, kw_only=True)
class OpenShard:
    """A tar's descriptor and its index."""

    descriptor: int
    index: ShardIndex


class ShardReader:
    """Reads samples of a shard set by number.

    Opens tars when they are first needed and keeps the last 64. Picklable: a copy opens its own.
    """

    def __init__(self, shard_set: ShardSet) -> None:
        self.shard_set = shard_set
        self._first_sample = np.concatenate([[0], np.cumsum(shard_set.shard_sizes)])
        self._open: OrderedDict[int, OpenShard] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict()}

    def __len__(self) -> int:
        return int(self._first_sample[-1])

    def locate(self, sample_id: int) -> tuple[ShardEntry, str]:
        """The shard that holds a sample, and the sample's key.

        Raises:
            IndexError: The set has no such sample.
        """
        number, row = self._place(sample_id)
        entry = self.shard_set.shards[number]
        return entry, f"{entry.file[len('shard-') : -len('.tar')]}-{row:06d}"

    def read(self, sample_id: int, suffixes: Collection[str] | None = None) -> RawSample:
        """Reads one sample.

        Args:
            sample_id: Number of the sample in the set, from 0.
            suffixes: Read only these members; None reads all that the allow-list knows.

        Raises:
            ShardError: The shard is missing, truncated or altered; names shard, offset and key.
            IndexError: The set has no such sample.
        """
        number, row = self._place(sample_id)
        entry, key = self.locate(sample_id)
        shard = self._opened(number)
        parts = shard.index.parts_of(row, PARTS if suffixes is None else suffixes)
        if not parts:
            return RawSample(shard=entry.file, key=key, sample_id=sample_id, members={})
        start, stop = parts[0].start, parts[-1].start + parts[-1].length
        span = self._pread(shard, entry, (start, stop), key)
        members = {}
        for part in parts:
            content = span[part.start - start :][: part.length]
            if zlib.crc32(content) != part.crc32:
                raise ShardError(
                    f"{self.shard_set.folder / entry.file}: {key}.{part.suffix} at byte "
                    f"{part.start} does not match its CRC32; the shard was altered, copy it "
                    "or shard the corpus again"
                )
            members[part.suffix] = content
        return RawSample(shard=entry.file, key=key, sample_id=sample_id, members=members)

    def close(self) -> None:
        """Closes every open tar; a later read opens what it needs again."""
        while self._open:
            os.close(self._open.popitem()[1].descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()

    def _place(self, sample_id: int) -> tuple[int, int]:
        if not 0 <= sample_id < len(self):
            raise IndexError(f"{self.shard_set.folder} has {len(self)} samples, not {sample_id}")
        number = int(np.searchsorted(self._first_sample, sample_id, side="right")) - 1
        return number, sample_id - int(self._first_sample[number])

    def _opened(self, number: int) -> OpenShard:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        shard = open_shard(self.shard_set, self.shard_set.shards[number])
        self._open[number] = shard
        if len(self._open) > MAX_OPEN_SHARDS:
            os.close(self._open.popitem(last=False)[1].descriptor)
        return shard

    def _pread(
        self, shard: OpenShard, entry: ShardEntry, bounds: tuple[int, int], key: str
    ) -> memoryview:
        """Bytes `bounds[0]` to `bounds[1]` of a tar, writable so that torch can wrap them."""
        start, stop = bounds
        span = memoryview(bytearray(stop - start))
        filled = 0
        while filled < len(span):
            try:
                count = os.preadv(shard.descriptor, [span[filled:]], start + filled)
            except OSError as error:
                raise ShardError(
                    f"{self.shard_set.folder / entry.file}: reading {key} at byte "
                    f"{start + filled} failed ({error.strerror})"
                ) from error
            if count == 0:
                raise ShardError(
                    f"{self.shard_set.folder / entry.file}: ends before byte {stop}, within "
                    f"{key}; the shard is truncated"
                )
            filled += count
        return span


def open_shard(shard_set: ShardSet, entry: ShardEntry) -> OpenShard:
    """Opens a tar and its index, and checks that they and the manifest belong together.

    Raises:
        ShardError: A file is missing, the tar is shorter than its index says (with the number of
            samples cut off), or index and manifest disagree.
    """
    tar = shard_set.folder / entry.file
    index = read_index(shard_set.folder / entry.index_file)
    if index.tar_sha256.hex() != entry.sha256 or len(index) != entry.samples:
        raise ShardError(f"{tar}: its index belongs to another shard set than manifest.json")
    try:
        descriptor = os.open(tar, os.O_RDONLY)
    except OSError as error:
        raise ShardError(f"{tar}: cannot be opened ({error.strerror})") from error
    size = os.fstat(descriptor).st_size
    if size != index.tar_bytes:
        os.close(descriptor)
        lost = int((index.sample_offsets[1:] > size).sum())
        raise ShardError(
            f"{tar}: {size} bytes where its index says {index.tar_bytes}; {lost} of {len(index)} "
            "samples are cut off; copy the shard or shard the corpus again"
        )
    return OpenShard(descriptor=descriptor, index=index)
