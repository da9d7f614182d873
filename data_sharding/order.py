"""Which sample has which slot: pure arithmetic, no input or output.

Shards are cut into blocks of neighbouring samples. Each epoch permutes the blocks; lane ``c`` owns
permuted blocks ``c, c + C, ...`` and shuffles its samples window by window. Lanes are endless: the
epochs follow one another, nothing is padded or dropped. Slot ``g`` of the stream is lane
``g mod C``, draw ``g div C``; global batch ``t`` is slots ``[t B, (t + 1) B)``, whatever the number
of ranks or workers, so the only state is the number of samples consumed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from data_sharding.blocks import Blocks
from data_sharding.permutation import Permutation

LANE_KEY = 0x6C616E65
"""Keeps the block permutation's key apart from other uses of the same seed."""


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
    """Independent streams that a global batch is drawn from; divides the global batch."""

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

    @property
    def local_batch(self) -> int:
        """Samples of each global batch that this rank gets."""
        return self.global_batch // self.world_size


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Samples in the order of their slots."""

    epochs: Int64[np.ndarray, "sample"]
    sample_ids: Int64[np.ndarray, "sample"]

    def __len__(self) -> int:
        return len(self.sample_ids)


@dataclass(frozen=True, kw_only=True)
class EpochLayout:
    """Where one epoch's short blocks (shards' last ones) fall.

    Attributes:
        permutation: Position -> block id.
        order: ``lane * blocks + ordinal`` of each short block, ascending.
        missing: Samples that short blocks before each entry of `order` lack; one entry more.
        lane_samples: Samples of each lane in this epoch.
    """

    permutation: Permutation
    order: Int64[np.ndarray, "short"]
    missing: Int64[np.ndarray, "bound"]
    lane_samples: Int64[np.ndarray, "lane"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """One shuffled window of a lane: the draws ``start`` to ``start + len(sample_ids)``."""

    epoch: int
    start: int
    sample_ids: Int64[np.ndarray, "sample"]


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
        self._lane_blocks = -(-(self.blocks.count - np.arange(config.lanes)) // config.lanes)
        self._epoch_starts = [np.zeros(config.lanes, dtype=np.int64)]
        self._layout = lru_cache(maxsize=4)(self._compute_layout)
        self._recent: dict[int, Window] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_layout": None, "_recent": {}}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._layout = lru_cache(maxsize=4)(self._compute_layout)

    def batch(self, step: int, part: Slice) -> Draws:
        """One rank's share of global batch `step`.

        The batch's slots in lane-major order are cut into `world_size` equal pieces, so a rank
        reads few lanes and the global batch is the same for every number of ranks.

        Raises:
            ValueError: The lanes do not divide the global batch.
        """
        lanes = self.config.lanes
        if part.global_batch % lanes:
            raise ValueError(
                f"{lanes} lanes do not divide the global batch of {part.global_batch}; choose "
                f"lanes = {_nearest_divisor(part.global_batch, lanes)}"
            )
        depth = part.global_batch // lanes
        first = part.rank * part.local_batch
        pieces = []
        for lane in range(first // depth, -(-(first + part.local_batch) // depth)):
            start = max(first, lane * depth) - lane * depth
            stop = min(first + part.local_batch, (lane + 1) * depth) - lane * depth
            pieces.append(self.draws(lane, step * depth + start, stop - start))
        return Draws(
            epochs=np.concatenate([piece.epochs for piece in pieces]),
            sample_ids=np.concatenate([piece.sample_ids for piece in pieces]),
        )

    def draws(self, lane: int, start: int, count: int) -> Draws:
        """Draws `start` to `start + count` of one lane."""
        epochs, ids = [], []
        while count > 0:
            window = self._window_at(lane, start)
            piece = window.sample_ids[start - window.start :][:count]
            epochs.append(np.full(len(piece), window.epoch, dtype=np.int64))
            ids.append(piece)
            start, count = start + len(piece), count - len(piece)
        return Draws(epochs=np.concatenate(epochs), sample_ids=np.concatenate(ids))

    def lane_samples(self, lane: int, epoch: int) -> int:
        """Samples that a lane draws in one of its epochs."""
        return int(self._layout(epoch).lane_samples[lane])

    def _window_at(self, lane: int, draw: int) -> Window:
        """The window that holds a draw; the last one of each lane is kept."""
        recent = self._recent.get(lane)
        if recent and 0 <= draw - recent.start < len(recent.sample_ids):
            return recent
        epoch = self._epoch_of(lane, draw)
        layout, start = self._layout(epoch), int(self._epoch_starts[epoch][lane])
        low, high = 0, -(-int(self._lane_blocks[lane]) // self.config.window_blocks) - 1
        while low < high:  # the last window that starts at or before the draw
            middle = (low + high + 1) // 2
            before = self._samples_before(layout, lane, middle * self.config.window_blocks)
            low, high = (middle, high) if before <= draw - start else (low, middle - 1)
        first = low * self.config.window_blocks
        window = Window(
            epoch=epoch,
            start=start + self._samples_before(layout, lane, first),
            sample_ids=self._shuffled(layout, lane, epoch, low),
        )
        self._recent[lane] = window
        return window

    def _epoch_of(self, lane: int, draw: int) -> int:
        """The epoch of a lane's draw; extends the table of epoch starts as far as needed."""
        while self._epoch_starts[-1][lane] <= draw:
            layout = self._layout(len(self._epoch_starts) - 1)
            self._epoch_starts.append(self._epoch_starts[-1] + layout.lane_samples)
        low, high = 0, len(self._epoch_starts) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if self._epoch_starts[middle][lane] <= draw else (low, middle)
            )
        return low

    def _compute_layout(self, epoch: int) -> EpochLayout:
        """Finds an epoch's short blocks by inverting the permutation: O(shards), not O(blocks)."""
        lanes = self.config.lanes
        permutation = Permutation(self.blocks.count, (self.config.seed ^ LANE_KEY, epoch))
        positions = permutation.inverse(self.blocks.short_ids)
        places = positions % lanes * self.blocks.count + positions // lanes
        order = np.argsort(places)
        lacking = np.zeros(lanes, dtype=np.int64)
        np.add.at(lacking, positions % lanes, self.blocks.short_lacking)
        return EpochLayout(
            permutation=permutation,
            order=places[order],
            missing=np.concatenate([[0], np.cumsum(self.blocks.short_lacking[order])]),
            lane_samples=self._lane_blocks * self.config.block_samples - lacking,
        )

    def _samples_before(self, layout: EpochLayout, lane: int, ordinal: int) -> int:
        """Samples of the lane's first `ordinal` blocks in an epoch."""
        base = lane * self.blocks.count
        first, last = np.searchsorted(layout.order, [base, base + ordinal])
        lacking = layout.missing[last] - layout.missing[first]
        return ordinal * self.config.block_samples - int(lacking)

    def _shuffled(
        self, layout: EpochLayout, lane: int, epoch: int, window: int
    ) -> Int64[np.ndarray, "sample"]:
        """The samples of a window in their drawn order."""
        first = window * self.config.window_blocks
        last = min(first + self.config.window_blocks, int(self._lane_blocks[lane]))
        positions = np.arange(first, last, dtype=np.int64) * self.config.lanes + lane
        ids = self.blocks.samples_of(layout.permutation.forward(positions))
        return ids[_shuffle(len(ids), (self.config.seed, epoch), (window, lane))]


def batches(order: LaneOrder, part: Slice, first_step: int) -> Iterator[Draws]:
    """A rank's share of every global batch from `first_step` on, without end."""
    step = first_step
    while True:
        yield order.batch(step, part)
        step += 1


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


def _nearest_divisor(number: int, wanted: int) -> int:
    """The largest divisor of `number` that is at most `wanted`."""
    return max(value for value in range(1, min(number, wanted) + 1) if number % value == 0)
