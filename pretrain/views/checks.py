"""Checks that the view configs share."""

from collections.abc import Iterable

Pair = tuple[float, float]
"""A number for the first and one for the second view."""


def check_probability(name: str, value: float) -> None:
    """Refuse a probability outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"views.{name} must be in [0, 1], got {value}")


def check_pairs(config: object, part: str, names: Iterable[str]) -> None:
    """Refuse probabilities of a view outside [0, 1].

    Args:
        config: Holds the pairs.
        part: Name of the config below ``views``.
        names: Its fields that are a pair of probabilities.
    """
    for name in names:
        for value in getattr(config, name):
            check_probability(f"{part}.{name}", value)


def check_range(name: str, values: tuple[float, float], low: float, high: float) -> None:
    """Refuse a range that is not ordered or leaves [low, high]."""
    if not low <= values[0] <= values[1] <= high:
        raise ValueError(f"views.{name} must be ordered and in [{low}, {high}], got {values}")
