"""The ranks that write and read checkpoints together."""

from collections.abc import Callable
from typing import Protocol, TypeVar, cast, runtime_checkable

from pretrain.checkpoint.record import CheckpointError

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


def on_first(ranks: Ranks, action: Callable[[], Value]) -> Value:
    """What an action of the first rank gave; where it fails, it fails for all. Collective.

    Raises:
        CheckpointError: on every rank.
    """
    value, failure = None, None
    if ranks.rank == 0:
        try:
            value = action()
        except (CheckpointError, OSError, ValueError) as error:
            failure = str(error)
    value, failure = ranks.gather((value, failure))[0]
    if failure is not None:
        raise CheckpointError(failure)
    return cast(Value, value)
