"""Which rank keeps the others waiting: reported, never acted on.

A step ends for all ranks when the slowest is done, so its duration tells nobody apart. What does is
the time before ranks first wait for each other: for the batch, its views, and the forward passes.
Where these wait too (at ZeRO stage 3, and for cohorts that lie over ranks) they do not count. A
rank whose backward pass alone is slow is not seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Generic, Protocol, TypeVar, runtime_checkable

from data_sharding.batch import TripleBatch

STRAGGLER = 3.0
"""Times the median of the other ranks from which on a rank is named."""

WINDOW_STEPS = 10
"""A rank is slow when it is over so many steps together, not for one."""


@runtime_checkable
class Timed(Protocol):
    """What a step tells of its time: `StepReport`."""

    @property
    def busy_seconds(self) -> tuple[float, ...]:
        """Per rank, the time in which it did not wait for the others."""
        ...


Report = TypeVar("Report", bound=Timed)


def slowness(busy_seconds: Sequence[float]) -> list[float]:
    """Of each rank: its busy seconds over the median of the others'; 1 where it is alone."""
    if len(busy_seconds) == 1:
        return [1.0]
    others = [
        [*busy_seconds[:rank], *busy_seconds[rank + 1 :]] for rank in range(len(busy_seconds))
    ]
    return [
        mine / max(median(theirs), 1e-9) for mine, theirs in zip(busy_seconds, others, strict=True)
    ]


class Pace:
    """Sums up the ranks' busy seconds over windows of steps, and names a straggler once.

    Args:
        world_size: Number of ranks.
        tell: Takes a sentence on a rank that has become slow.
    """

    def __init__(self, world_size: int, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._sums = [0.0] * world_size
        self._steps = 0
        self._named: int | None = None
        self.slowest = 1.0
        """Of the last whole window: how slow the slowest rank was; 1 is as fast as the others."""

    def watch(self, step: Callable[[TripleBatch, int], Report]) -> "PacedStep[Report]":
        """The same step, whose reports are added up."""
        return PacedStep(self, step)

    def add(self, busy_seconds: Sequence[float], step: int) -> None:
        """Add those of optimizer step ``step``, counted from 1."""
        self._sums = [total + more for total, more in zip(self._sums, busy_seconds, strict=True)]
        self._steps += 1
        if self._steps < WINDOW_STEPS:
            return
        ratios, seconds = slowness(self._sums), max(self._sums) / self._steps
        self._sums, self._steps = [0.0] * len(ratios), 0
        self.slowest, named = max(ratios), self._named
        self._named = ratios.index(self.slowest) if self.slowest >= STRAGGLER else None
        if self._named is not None and self._named != named:
            self._tell(
                f"step {step}: rank {self._named} is {self.slowest:.1f} times slower than the "
                f"others (busy for {seconds:.2f} s of a step), and all wait for it; look at its "
                "node: other processes, storage, temperature"
            )


@dataclass(frozen=True)
class PacedStep(Generic[Report]):
    """A step that tells its ranks' pace."""

    pace: Pace
    step: Callable[[TripleBatch, int], Report]

    def __call__(self, batch: TripleBatch, step: int) -> Report:
        """Do the step. Collective."""
        report = self.step(batch, step)
        self.pace.add(report.busy_seconds, step + 1)
        return report
