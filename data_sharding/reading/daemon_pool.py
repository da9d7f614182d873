"""A few threads that run calls ahead of time and never keep a process from ending.

The standard library's pool waits at exit for calls that are still running; one that hangs on a dead
server would hold up Ctrl-C.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Call = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class DaemonPool:
    """Runs calls in daemon threads, which start with the first call.

    Args:
        num_threads: Calls that run at once.
        name: Names the threads.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._num_threads = num_threads
        self._name = name
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, action: Callable[..., Any], *arguments: object) -> "Future[Any]":
        """Queues a call; its future holds what it returns or raises."""
        if not self._threads:
            self._start()
        future: Future[Any] = Future()
        self._calls.put((future, action, arguments))
        return future

    def close(self) -> None:
        """Drops the calls that wait; the threads end after the ones that run."""
        while not self._calls.empty():
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                break
            if call:
                call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        self._calls = queue.SimpleQueue()
        self._threads = []

    def _start(self) -> None:
        for number in range(self._num_threads):
            thread = threading.Thread(
                target=_work, args=(self._calls,), name=f"{self._name}-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)


def _work(calls: "queue.SimpleQueue[Call | None]") -> None:
    while (call := calls.get()) is not None:
        future, action, arguments = call
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(action(*arguments))
        except BaseException as error:  # handed to whoever asks for the result
            future.set_exception(error)
        del call, future, action, arguments  # else results live until the next call
