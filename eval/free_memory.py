"""How much memory is free, for what is kept of a whole task at once."""

from pathlib import Path

MEMORY_SHARE = 0.5
"""What would fill more than this share of the free memory is refused."""


def available_bytes() -> int:
    """Memory that can be had without swapping, by Linux's own estimate.

    Raises:
        ValueError: The system does not tell.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = dict(line.split(":", 1) for line in lines)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        raise ValueError("/proc/meminfo does not tell how much memory is free") from None
