"""The same function over many files, in processes; the results come in the order of the files."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from data_sharding.progress import track

WAITING_PER_WORKER = 4
"""Tasks handed out ahead of each worker; bounds what a long list holds in memory."""

BYTES_PER_PROCESS = 256 << 20

Item = TypeVar("Item")
Result = TypeVar("Result")


def fitting_workers(num_bytes: int) -> int:
    """One process for every 256 MB to read, at most one a core that this process may use.

    A process takes seconds to start, in which another reads a gigabyte.
    """
    return min(len(os.sched_getaffinity(0)), 1 + num_bytes // BYTES_PER_PROCESS)


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, label: str
) -> Iterator[Result]:
    """Calls `function` on every item and reports progress on stderr.

    Args:
        function: Picklable, as are items and results.
        items: What to work on.
        workers: Processes at once; with one, or one item, everything stays in this process.
        label: What is being done, for the reader.

    Raises:
        ValueError: `workers` is below 1.
        Exception: Whatever `function` raises; tasks not begun are dropped.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    found = (
        map(function, items)
        if min(workers, len(items)) <= 1
        else _pooled(function, items, min(workers, len(items)))
    )
    yield from track(found, label, len(items))


def _pooled(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    # forkserver: torch, which the package imports, does not survive a plain fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= WAITING_PER_WORKER * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
