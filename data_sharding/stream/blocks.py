"""Shards cut into blocks of neighbouring samples; a block never straddles two shards."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64


class Blocks:
    """Block numbers of a shard set; memory grows with the number of shards, not of samples.

    Every block has `block_samples` samples but the last one of a shard, which may be short.

    Attributes:
        count: Number of blocks.
        short_ids: The short blocks.
        short_lacking: How many samples each of them lacks.
    """

    def __init__(self, shard_sizes: Sequence[int], block_samples: int) -> None:
        sizes = np.array([size for size in shard_sizes if size], dtype=np.int64)
        if len(sizes) == 0:
            raise ValueError("the shard set holds no samples")
        self.block_samples = block_samples
        self._sizes = sizes
        blocks = -(-sizes // block_samples)
        self.count = int(blocks.sum())
        self._first_sample = np.concatenate([[0], np.cumsum(sizes)])
        self._first_block = np.concatenate([[0], np.cumsum(blocks)])
        lacking = blocks * block_samples - sizes
        self.short_ids = (self._first_block[1:] - 1)[lacking > 0]
        self.short_lacking = lacking[lacking > 0]

    def samples_of(self, blocks: Int64[np.ndarray, "block"]) -> Int64[np.ndarray, "sample"]:
        """All sample numbers of some blocks, block after block."""
        shards = np.searchsorted(self._first_block, blocks, side="right") - 1
        offsets = (blocks - self._first_block[shards]) * self.block_samples
        starts = self._first_sample[shards] + offsets
        stops = np.minimum(starts + self.block_samples, self._first_sample[shards + 1])
        grid = starts[:, None] + np.arange(self.block_samples)
        return grid[grid < stops[:, None]]

    def refuse_fewer_than(self, lanes: int) -> None:
        """Each lane needs a block of its own.

        Raises:
            ValueError: Too few blocks; names the values to choose.
        """
        if self.count >= lanes:
            return
        size = self.block_samples
        while size > 1 and self._count_with(size) < lanes:
            size -= 1
        smaller = f"block_samples = {size} or less, or " if self._count_with(size) >= lanes else ""
        raise ValueError(
            f"{self._sizes.sum()} samples in blocks of {self.block_samples} are {self.count} "
            f"blocks, fewer than the {lanes} lanes; choose {smaller}lanes = {self.count} or less"
        )

    def _count_with(self, block_samples: int) -> int:
        return int((-(-self._sizes // block_samples)).sum())


def num_blocks(shard_sizes: Sequence[int], block_samples: int) -> int:
    """Blocks that shards of these sizes are cut into."""
    return sum(-(-size // block_samples) for size in shard_sizes)
