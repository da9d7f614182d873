"""Which sample has which slot: pure arithmetic, no input or output.

Shards are cut into blocks of neighbouring samples. Each epoch permutes the blocks; lane ``c`` owns
permuted blocks ``c, c + C, ...`` and shuffles its samples window by window. Lanes are endless: the
epochs follow one another, nothing is padded or dropped. Slot ``g`` of the stream is lane
``g mod C``, draw ``g div C``; global batch ``t`` is slots ``[t B, (t + 1) B)``, whatever the number
of ranks or workers, so the only state is the number of samples consumed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from data_sharding.stream.blocks import Blocks
from data_sharding.stream.lane_epochs import LaneEpochs


@dataclass(frozen=True, kw_only=True)
class OrderConfig:
    """Constants of a run's sample order; changing one changes which sample comes when."""

    seed: int = 0
    """Chooses the order, 0 or more."""

    block_samples: int = 16
    """Neighbouring samples that are read together; about 4 MB of them is a good size."""

    window_blocks: int = 8
    """Blocks whose samples are shuffled together within a lane."""

    lanes: int = 8
    """Independent streams that a global batch is drawn from; divides the global batch. In a blend
    it need not, and a set with fewer blocks than lanes has one lane for each block."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"order.seed must be in [0, 2**63), got {self.seed}")
        for name in ("block_samples", "window_blocks", "lanes"):
            if getattr(self, name) < 1:
                raise ValueError(f"order.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One rank's share of every global batch."""

    global_batch: int
    """Samples in one optimizer step over all ranks."""

    rank: int = 0
    """This process's number, from 0."""

    world_size: int = 1
    """Number of ranks; divides the global batch."""

    micro_batch: int | None = None
    """Samples that the rank takes at a time; divides its share. All ranks together take
    consecutive samples of the global batch. None is its whole share at once."""

    def __post_init__(self) -> None:
        if self.global_batch < 1 or not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"need global_batch >= 1 and 0 <= rank < world_size, got "
                f"global_batch={self.global_batch}, rank={self.rank}, world_size={self.world_size}"
            )
        if self.global_batch % self.world_size:
            lower = self.global_batch - self.global_batch % self.world_size
            nearest = [str(value) for value in (lower, lower + self.world_size) if value]
            raise ValueError(
                f"a global batch of {self.global_batch} cannot be split over {self.world_size} "
                f"ranks; choose {' or '.join(nearest)}"
            )
        micro = self.micro_batch
        if micro is not None and (micro < 1 or self.local_batch % micro):
            raise ValueError(f"micro_batch {micro} does not divide a rank's {self.local_batch}")

    @property
    def local_batch(self) -> int:
        """Samples of each global batch that this rank gets."""
        return self.global_batch // self.world_size

    @property
    def stretches(self) -> list[range]:
        """The places of a global batch that are this rank's, one stretch for each micro-batch."""
        micro = self.micro_batch or self.local_batch
        firsts = range(self.rank * micro, self.global_batch, self.world_size * micro)
        return [range(first, first + micro) for first in firsts]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Samples in the order of a batch.

    Attributes:
        epochs: How often the sample's lane has gone through its set before.
        sample_ids: Number of each sample; those of several sets follow on.
        sets: Which set each sample comes from.
        slots: Place of each draw in the endless stream of its own set.
    """

    epochs: Int64[np.ndarray, "sample"]
    sample_ids: Int64[np.ndarray, "sample"]
    sets: Int64[np.ndarray, "sample"]
    slots: Int64[np.ndarray, "sample"]

    def __len__(self) -> int:
        return len(self.sample_ids)

    @classmethod
    def join(cls, parts: "Sequence[Draws]") -> "Draws":
        """Draws one after the other."""
        return cls(
            epochs=np.concatenate([part.epochs for part in parts]),
            sample_ids=np.concatenate([part.sample_ids for part in parts]),
            sets=np.concatenate([part.sets for part in parts]),
            slots=np.concatenate([part.slots for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """One shuffled window of a lane: the draws ``start`` to ``start + len(sample_ids)``."""

    epoch: int
    ordinal: int
    start: int
    sample_ids: Int64[np.ndarray, "sample"]

    @property
    def stop(self) -> int:
        """The first draw after it."""
        return self.start + len(self.sample_ids)


class LaneOrder:
    """The order of samples for shards of given sizes; equal arguments give equal draws.

    Memory grows with the number of shards, not of samples.

    Raises:
        ValueError: The set has fewer blocks than lanes; the message says what to choose.
    """

    def __init__(self, shard_sizes: Sequence[int], config: OrderConfig) -> None:
        self.config = config
        self.blocks = Blocks(shard_sizes, config.block_samples)
        self.blocks.refuse_fewer_than(config.lanes)
        self._epochs = LaneEpochs(self.blocks, config.lanes, config.seed)
        self._recent: dict[int, Window] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_recent": {}}

    def batch(self, step: int, part: Slice) -> Draws:
        """One rank's share of global batch `step`.

        The batch's slots in lane-major order are dealt out to the ranks, a micro-batch to each in
        turn (the larger, the fewer lanes a rank reads); the global batch stays the same.

        Raises:
            ValueError: The lanes do not divide the global batch.
        """
        self.refuse_batch_of(part.global_batch)
        start, count = step * part.global_batch, part.global_batch
        return Draws.join(
            [self.slots(start, count, (own.start, own.stop)) for own in part.stretches]
        )

    def refuse_batch_of(self, global_batch: int) -> None:
        """Lanes that do not divide the batch would give it more of one lane than of another.

        Raises:
            ValueError: They do not.
        """
        if global_batch % self.config.lanes:
            raise ValueError(
                f"{self.config.lanes} lanes do not divide the global batch of {global_batch}; "
                f"choose lanes = {_nearest_divisor(global_batch, self.config.lanes)}"
            )

    def slots(self, start: int, count: int, bounds: tuple[int, int]) -> Draws:
        """Some of the slots `start` to `start + count`, put in lane-major order.

        Args:
            start: First slot of the stretch.
            count: Its number of slots.
            bounds: Which places of the stretch in lane-major order to give: from, to (not
                included).
        """
        lanes = np.arange(self.config.lanes, dtype=np.int64)
        first_draws = -((lanes - start) // self.config.lanes)
        depths = -((lanes - start - count) // self.config.lanes) - first_draws
        ends = np.cumsum(depths)
        first, last = ends.searchsorted(bounds[0], "right"), ends.searchsorted(bounds[1], "left")
        pieces = [_NOTHING]
        for lane in range(int(first), min(int(last) + 1, self.config.lanes)):
            offset = int(ends[lane] - depths[lane])
            low, high = max(bounds[0], offset), min(bounds[1], int(ends[lane]))
            if low < high:
                draw = int(first_draws[lane]) + low - offset
                pieces.append(self.draws(lane, draw, high - low))
        return Draws.join(pieces)

    def draws(self, lane: int, start: int, count: int) -> Draws:
        """Draws `start` to `start + count` of one lane."""
        epochs, ids = [], []
        draw, stop = start, start + count
        while draw < stop:
            window = self._window_at(lane, draw)
            piece = window.sample_ids[draw - window.start :][: stop - draw]
            epochs.append(np.full(len(piece), window.epoch, dtype=np.int64))
            ids.append(piece)
            draw += len(piece)
        return Draws(
            epochs=np.concatenate(epochs),
            sample_ids=np.concatenate(ids),
            sets=np.zeros(count, dtype=np.int64),
            slots=np.arange(start, stop, dtype=np.int64) * self.config.lanes + lane,
        )

    def others(self, slot: int) -> Int64[np.ndarray, "sample"]:
        """The other samples of a slot's window: those drawn after it, then those before it.

        A window of one sample has none; then those of the window before it, or of the epoch's
        first window in the other lanes.
        """
        draw, lane = divmod(slot, self.config.lanes)
        window = self._window_at(lane, draw)
        place = draw - window.start
        if window.stop - window.start > 1:
            return np.concatenate([window.sample_ids[place + 1 :], window.sample_ids[:place]])
        if window.ordinal:
            return self._shuffled(lane, window.epoch, window.ordinal - 1)
        lanes = [(lane + turn) % self.config.lanes for turn in range(1, self.config.lanes)]
        firsts = [self._shuffled(other, window.epoch, 0) for other in lanes]
        return np.concatenate([np.zeros(0, dtype=np.int64), *firsts])

    def lane_samples(self, lane: int, epoch: int) -> int:
        """Samples that a lane draws in one of its epochs."""
        return int(self._epochs.lane_samples(epoch)[lane])

    def _window_at(self, lane: int, draw: int) -> Window:
        """The window that holds a draw; the last one of each lane is kept."""
        recent = self._recent.get(lane)
        if recent and recent.start <= draw < recent.stop:
            return recent
        epoch, start = self._epochs.find(lane, draw)
        if recent and draw == recent.stop and epoch == recent.epoch:
            ordinal = recent.ordinal + 1
        else:
            ordinal = self._ordinal_of(lane, epoch, draw - start)
        before = self._epochs.samples_before(epoch, lane, ordinal * self.config.window_blocks)
        window = Window(
            epoch=epoch,
            ordinal=ordinal,
            start=start + before,
            sample_ids=self._shuffled(lane, epoch, ordinal),
        )
        self._recent[lane] = window
        return window

    def _ordinal_of(self, lane: int, epoch: int, draw: int) -> int:
        """The last window of a lane that starts at or before a draw of the epoch."""
        size = self.config.window_blocks
        low, high = 0, -(-int(self._epochs.lane_blocks[lane]) // size) - 1
        while low < high:
            middle = (low + high + 1) // 2
            before = self._epochs.samples_before(epoch, lane, middle * size)
            low, high = (middle, high) if before <= draw else (low, middle - 1)
        return low

    def _shuffled(self, lane: int, epoch: int, window: int) -> Int64[np.ndarray, "sample"]:
        """The samples of a window in their drawn order."""
        first = window * self.config.window_blocks
        last = min(first + self.config.window_blocks, int(self._epochs.lane_blocks[lane]))
        ids = self.blocks.samples_of(self._epochs.block_ids(epoch, lane, first, last))
        return ids[_shuffle(len(ids), (self.config.seed, epoch), (window, lane))]


def _shuffle(
    count: int, key: tuple[int, int], counter: tuple[int, int]
) -> Int64[np.ndarray, "sample"]:
    """A permutation of `count` from a counter-based generator.

    Sorts raw Philox words: NumPy promises that those never change, which it does not promise for
    `Generator.permutation`.
    """
    state = np.array([0, *counter, 0], dtype=np.uint64)
    words = np.random.Philox(counter=state, key=np.array(key, dtype=np.uint64)).random_raw(count)
    return np.argsort(words, kind="stable")


_NOTHING = Draws(**{name: np.zeros(0, dtype=np.int64) for name in Draws.__dataclass_fields__})


def _nearest_divisor(number: int, wanted: int) -> int:
    """The largest divisor of `number` that is at most `wanted`."""
    return max(value for value in range(1, min(number, wanted) + 1) if number % value == 0)
