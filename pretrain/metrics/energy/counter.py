"""What an energy counter is, whatever it counts."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

KINDS = {"gpu": "GPUs", "cpu": "CPU packages"}
"""Kinds of counters, and what they count."""


class CounterError(Exception):
    """A counter cannot be read; the message says which and why, without a full stop."""


@runtime_checkable
class Counter(Protocol):
    """Counts the energy of some parts of a machine."""

    def joules(self) -> Mapping[str, float]:
        """By part, its energy since some moment before the first call.

        Raises:
            CounterError: it cannot be read now.
        """
        ...

    def close(self) -> None:
        """Let go of the counter."""
        ...
