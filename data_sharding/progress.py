"""Progress of long work: a bar on a terminal, a plain line now and then in a log."""

import sys
import time
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0

Item = TypeVar("Item")


def track(
    items: Iterable[Item], label: str, total: int | None = None
) -> Generator[Item, None, None]:
    """Yields `items` and reports on stderr how many have gone by.

    Args:
        items: What to go through.
        label: What is being done, for the reader.
        total: Number of items, None if unknown.
    """
    shown = _with_bar if sys.stderr.isatty() else _with_lines
    yield from shown(items, label, total)


def _with_bar(items: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=label)


def _with_lines(items: Iterable[Item], label: str, total: int | None) -> Iterator[Item]:
    reported = time.monotonic()
    for count, item in enumerate(items):
        if time.monotonic() - reported >= SECONDS_BETWEEN_LINES:
            reported = time.monotonic()
            print(f"{label}: {count}" + (f" of {total}" if total else ""), file=sys.stderr)
        yield item
