"""Whether one group of losses rises for long while another falls."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

BLOCKS = 4


def intra_rises_while_cross_falls(
    looks: Sequence[Mapping[str, float]], num_looks: int
) -> float | None:
    """The share by which intra rose from the first block to the last, or None.

    The last ``num_looks`` looks are cut into four blocks; the mean of the intra losses must
    rise, and that of the cross losses fall, from every block to the next.
    """
    recent = looks[-num_looks:]
    if len(recent) < num_looks:
        return None
    intra, cross = (_block_means(recent, f"loss/{group}_") for group in ("intra", "cross"))
    if not intra or not cross or not _monotone(intra, 1.0) or not _monotone(cross, -1.0):
        return None
    return intra[-1] / intra[0] - 1.0 if intra[0] > 0.0 else None


def _monotone(values: Sequence[float], sign: float) -> bool:
    return all(sign * (b - a) > 0.0 for a, b in pairwise(values))


def _block_means(looks: Sequence[Mapping[str, float]], prefix: str) -> list[float]:
    size = len(looks) // BLOCKS
    means = []
    for start in range(0, size * BLOCKS, size):
        values = [
            value
            for signals in looks[start : start + size]
            for name, value in signals.items()
            if name.startswith(prefix)
        ]
        if not values:
            return []
        means.append(sum(values) / len(values))
    return means
