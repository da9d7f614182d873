"""How many samples each set gives to each global batch, and which: exact integer arithmetic.

A set of weight w gives ``w * batch`` samples, rounded down or up, to every global batch. What the
roundings leave over is drawn systematically: the fractions are laid end to end as intervals, and
one pick falls in each unit of their whole length. The picks' common offset moves on by the golden
ratio from batch to batch, so that over any stretch of batches each set gets its share, and the
number of its samples before any batch has a closed form. The state is the samples consumed, alone.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

from data_sharding.stream.blocks import num_blocks
from data_sharding.stream.order import Draws, LaneOrder, OrderConfig, Slice

GOLDEN_64 = 0x9E3779B97F4A7C15
"""The golden ratio's fraction in units of 2**-64."""

OFFSETS = 1 << 32
"""Steps that a unit of the picks' offset is divided in."""

SET_KEY = 0x3C6EF372FE94F82B
"""Sets of a blend have orders of their own: each set's seed is turned by its number."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of the stream with constant weights.

    Attributes:
        from_sample: Samples of the stream, over all ranks, before it. It begins with the first
            global batch that starts there or later.
        weights: Relative share of each set, 0 or more; they need not sum to 1.
    """

    from_sample: int
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.from_sample < 0:
            raise ValueError(f"a phase begins at sample 0 or later, got {self.from_sample}")
        if not all(math.isfinite(weight) and weight >= 0.0 for weight in self.weights):
            raise ValueError(f"weights must be finite and 0 or more, got {self.weights}")
        if not any(self.weights):
            raise ValueError(f"at least one weight must be above 0, got {self.weights}")

    def shares(self) -> tuple[Fraction, ...]:
        """Each set's share as exactly as it was written: 0.1 is one tenth. They sum to 1."""
        exact = [Fraction(repr(weight)) for weight in self.weights]
        return tuple(weight / sum(exact) for weight in exact)


def refuse_odd_phases(phases: Sequence[Phase], num_sets: int) -> None:
    """Checks that phases follow each other from sample 0 on.

    Raises:
        ValueError: They do not, or one has not a weight for each set.
    """
    starts = [phase.from_sample for phase in phases]
    if not starts or starts[0] != 0:
        raise ValueError(f"the first phase of a blend begins at sample 0, got {starts[:1]}")
    if any(after <= before for before, after in pairwise(starts)):
        raise ValueError(f"the phases of a blend begin one after the other, got {starts}")
    for phase in phases:
        if len(phase.weights) != num_sets:
            raise ValueError(f"{num_sets} sets need {num_sets} weights, got {phase.weights}")


class PhaseCounts:
    """Samples of each set in the batches of one phase, counted from its start."""

    def __init__(self, phase: Phase, global_batch: int) -> None:
        wanted = [share * global_batch for share in phase.shares()]
        units = math.lcm(*(share.denominator for share in wanted))
        self._whole = [math.floor(share) for share in wanted]
        self._modulus = units * OFFSETS
        self._stride = self._modulus * GOLDEN_64 >> 64
        lengths = [int((share % 1) * units) * OFFSETS for share in wanted]
        self._ends = np.cumsum(np.array([0, *lengths], dtype=object)).tolist()

    def taken(self, step: int) -> list[int]:
        """Samples of each set in batch `step` of the phase."""
        offset = step * self._stride
        picks = [(offset - end) // self._modulus for end in self._ends]
        return [
            whole + picks[number] - picks[number + 1] for number, whole in enumerate(self._whole)
        ]

    def before(self, step: int) -> list[int]:
        """Samples of each set in all batches of the phase before `step`."""
        picks = [floor_sum(step, self._modulus, self._stride, -end) for end in self._ends]
        return [
            whole * step + picks[number] - picks[number + 1]
            for number, whole in enumerate(self._whole)
        ]


class BlendCounts:
    """Samples of each set before and in every global batch of a stream of phases."""

    def __init__(self, phases: Sequence[Phase], num_sets: int, global_batch: int) -> None:
        refuse_odd_phases(phases, num_sets)
        self._first_steps = [-(-phase.from_sample // global_batch) for phase in phases]
        self._phases = [PhaseCounts(phase, global_batch) for phase in phases]
        self._known = (0, [0] * num_sets)

    def taken(self, step: int) -> list[int]:
        """Samples of each set in global batch `step`; they sum to the global batch."""
        number = max(place for place, first in enumerate(self._first_steps) if first <= step)
        return self._phases[number].taken(step - self._first_steps[number])

    def before(self, step: int) -> list[int]:
        """Samples of each set in all global batches before `step`."""
        known, counts = self._known
        if step == known + 1:
            counts = _add(counts, self.taken(known))
        elif step != known:
            counts = self._sum_before(step)
        self._known = (step, counts)
        return counts

    def _sum_before(self, step: int) -> list[int]:
        ends = [*self._first_steps[1:], step]
        counts = [0] * len(self._known[1])
        for first, end, phase in zip(self._first_steps, ends, self._phases, strict=True):
            if (length := min(end, step) - first) > 0:
                counts = _add(counts, phase.before(length))
        return counts


class BlendOrder:
    """Which samples of several sets make up each global batch; one set alone is a blend too.

    Each set has a `LaneOrder` of its own, which goes on where its samples of the batches before
    ended. A batch is laid out set by set, each in lane-major order, and dealt out to the ranks a
    micro-batch at a time. The global batch is a constant of the stream.

    Args:
        sets: Number of samples in each shard of each set.
        phases: Weights over time; one weight a set.
        config: Constants of the order.
        global_batch: Samples in a global batch.

    Raises:
        ValueError: The phases do not fit, a set is too small, or there is one set whose lanes do
            not divide the global batch.
    """

    def __init__(
        self,
        sets: Sequence[Sequence[int]],
        phases: Sequence[Phase],
        config: OrderConfig,
        global_batch: int,
    ) -> None:
        self.global_batch = global_batch
        self._counts = BlendCounts(phases, len(sets), global_batch)
        self._orders = [
            LaneOrder(sizes, _config_of_set(sizes, config, number, len(sets)))
            for number, sizes in enumerate(sets)
        ]
        if len(sets) == 1:
            self._orders[0].refuse_batch_of(global_batch)
        self._first_ids = [0, *np.cumsum([sum(sizes) for sizes in sets]).tolist()]

    def batch(self, step: int, part: Slice) -> Draws:
        """One rank's share of global batch `step`."""
        assert part.global_batch == self.global_batch
        starts, taken = self._counts.before(step), self._counts.taken(step)
        return Draws.join(
            [piece for own in part.stretches for piece in self._pieces(own, starts, taken)]
        )

    def _pieces(self, own: range, starts: Sequence[int], taken: Sequence[int]) -> Iterator[Draws]:
        """What each set has in a stretch of a batch that takes so many samples of each."""
        place = 0
        for number, count in enumerate(taken):
            bounds = (max(own.start - place, 0), min(own.stop - place, count))
            if bounds[0] < bounds[1]:
                draws = self._orders[number].slots(starts[number], count, bounds)
                yield self._in_blend(draws, number)
            place += count

    def others(self, number: int, slot: int) -> Int64[np.ndarray, "sample"]:
        """The other samples of the window of set `number` that holds a slot, in drawn order."""
        return self._orders[number].others(slot) + self._first_ids[number]

    def _in_blend(self, draws: Draws, number: int) -> Draws:
        return Draws(
            epochs=draws.epochs,
            sample_ids=draws.sample_ids + self._first_ids[number],
            sets=draws.sets + number,
            slots=draws.slots,
        )


def floor_sum(count: int, modulus: int, factor: int, summand: int) -> int:
    """Sum of ``(factor * i + summand) // modulus`` over i in 0..count-1, in O(log modulus).

    Source: the reduction of AtCoder Library's ``floor_sum``, as in Euclid's algorithm.

    Args:
        count: Number of terms, 0 or more.
        modulus: 1 or more.
        factor: Any integer.
        summand: Any integer.
    """
    total = 0
    while count > 0:
        total += (count - 1) * count // 2 * (factor // modulus) + count * (summand // modulus)
        factor, summand = factor % modulus, summand % modulus
        top = factor * count + summand
        if top < modulus:
            break
        count, summand = divmod(top, modulus)
        modulus, factor = factor, modulus
    return total


def _add(one: list[int], other: list[int]) -> list[int]:
    return [left + right for left, right in zip(one, other, strict=True)]


def _config_of_set(
    sizes: Sequence[int], config: OrderConfig, number: int, num_sets: int
) -> OrderConfig:
    """A set's own seed; in a blend, no more lanes than the set has blocks."""
    blocks = num_blocks(sizes, config.block_samples)
    return OrderConfig(
        seed=(config.seed + number * SET_KEY) % 2**63,
        block_samples=config.block_samples,
        window_blocks=config.window_blocks,
        lanes=config.lanes if num_sets == 1 else max(1, min(config.lanes, blocks)),
    )
