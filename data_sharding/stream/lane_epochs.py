"""How many samples each lane has in each epoch, and where its short blocks fall."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from data_sharding.stream.blocks import Blocks
from data_sharding.stream.permutation import Permutation

LANE_KEY = 0x6C616E65
"""Keeps the block permutation's key apart from other uses of the same seed."""

LAYOUTS_KEPT = 2
"""Lanes are at most one epoch apart for most of a run; a layout is 16 bytes a shard."""


@dataclass(frozen=True, kw_only=True)
class EpochLayout:
    """Where one epoch's short blocks (shards' last ones) fall.

    Attributes:
        permutation: Position -> block id.
        order: ``lane * blocks + ordinal`` of each short block, ascending.
        missing: Samples that short blocks before each entry of `order` lack; one entry more.
    """

    permutation: Permutation
    order: Int64[np.ndarray, "short"]
    missing: Int64[np.ndarray, "bound"]


class LaneEpochs:
    """The epochs of all lanes of a shard set; everything is computed when it is first asked for.

    Costs O(shards), not O(samples), for each epoch that a stream has gone through.
    """

    def __init__(self, blocks: Blocks, lanes: int, seed: int) -> None:
        self.blocks = blocks
        self.lanes = lanes
        self.lane_blocks = -(-(blocks.count - np.arange(lanes, dtype=np.int64)) // lanes)
        self._seed = seed
        self._starts = [np.zeros(lanes, dtype=np.int64)]
        self._start_caches()

    def __getstate__(self) -> dict[str, object]:
        caches = ("layout", "lane_samples", "_short_positions")
        return {name: value for name, value in self.__dict__.items() if name not in caches}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._start_caches()

    def find(self, lane: int, draw: int) -> tuple[int, int]:
        """The epoch that holds a lane's draw, and the epoch's first draw."""
        while self._starts[-1][lane] <= draw:
            self._starts.append(self._starts[-1] + self.lane_samples(len(self._starts) - 1))
        low, high = 0, len(self._starts) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._starts[middle][lane] <= draw else (low, middle)
        return low, int(self._starts[low][lane])

    def samples_before(self, epoch: int, lane: int, ordinal: int) -> int:
        """Samples of the lane's first `ordinal` blocks in an epoch."""
        layout, base = self.layout(epoch), lane * self.blocks.count
        first, last = layout.order.searchsorted((base, base + ordinal))
        lacking = layout.missing[last] - layout.missing[first]
        return ordinal * self.blocks.block_samples - int(lacking)

    def block_ids(self, epoch: int, lane: int, first: int, last: int) -> Int64[np.ndarray, "block"]:
        """The lane's blocks `first` to `last` (not included) in their drawn order."""
        positions = np.arange(first, last, dtype=np.int64) * self.lanes + lane
        return self.layout(epoch).permutation.forward(positions)

    def _start_caches(self) -> None:
        self.layout = lru_cache(maxsize=LAYOUTS_KEPT)(self._compute_layout)
        self.lane_samples = lru_cache(maxsize=LAYOUTS_KEPT)(self._compute_lane_samples)
        self._short_positions = lru_cache(maxsize=1)(self._compute_short_positions)

    def _permutation(self, epoch: int) -> Permutation:
        return Permutation(self.blocks.count, (self._seed ^ LANE_KEY, epoch))

    def _compute_short_positions(self, epoch: int) -> Int64[np.ndarray, "short"]:
        """Where an epoch draws the short blocks, found by inverting its permutation."""
        return self._permutation(epoch).inverse(self.blocks.short_ids)

    def _compute_lane_samples(self, epoch: int) -> Int64[np.ndarray, "lane"]:
        """Samples of each lane in an epoch."""
        whole = self.lane_blocks * self.blocks.block_samples
        if not len(self.blocks.short_ids):
            return whole
        lanes = self._short_positions(epoch) % self.lanes
        lacking = np.bincount(lanes, self.blocks.short_lacking, self.lanes)
        return whole - lacking.astype(np.int64)

    def _compute_layout(self, epoch: int) -> EpochLayout:
        ordinals, lanes = np.divmod(self._short_positions(epoch), self.lanes)
        places = lanes * self.blocks.count + ordinals
        order = np.argsort(places)
        return EpochLayout(
            permutation=self._permutation(epoch),
            order=places[order],
            missing=np.concatenate([[0], np.cumsum(self.blocks.short_lacking[order])]),
        )
