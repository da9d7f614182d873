"""Checks that the view configs share."""


def check_probability(name: str, value: float) -> None:
    """Refuse a probability outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"views.{name} must be in [0, 1], got {value}")


def check_range(name: str, values: tuple[float, float], low: float, high: float) -> None:
    """Refuse a range that is not ordered or leaves [low, high]."""
    if not low <= values[0] <= values[1] <= high:
        raise ValueError(f"views.{name} must be ordered and in [{low}, {high}], got {values}")
