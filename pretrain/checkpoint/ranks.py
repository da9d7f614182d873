"""The ranks that write and read checkpoints together."""

from typing import Protocol, TypeVar, runtime_checkable

Value = TypeVar("Value")


@runtime_checkable
class Ranks(Protocol):
    """All ranks of a run, seen from one of them."""

    rank: int
    world_size: int

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, in the order of ranks. Collective."""
        ...


class OneRank:
    """The only rank there is."""

    rank, world_size = 0, 1

    def gather(self, value: Value) -> list[Value]:
        """Its own value."""
        return [value]
