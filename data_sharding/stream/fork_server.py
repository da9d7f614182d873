"""The process that the loader's workers are forked from; Ctrl-C may end its start at any time.

It imports what workers need, once: torchaudio's threads deadlock children forked from the training
process, and spawned ones import torch anew.
"""

import multiprocessing
import os
import signal
from functools import cache
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from typing import Any

LEFT_TO_THE_LOADER = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that workers and their fork server ignore."""

PRELOAD = ["data_sharding.stream.worker_start", "data_sharding.stream.loader"]


@cache
def fork_server() -> ForkServerContext:
    """What starts workers, once it has imported all that they need.

    Raises:
        KeyboardInterrupt: Ctrl-C came meanwhile; then nothing is left of it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    resource_tracker.ensure_running()  # it, too, changes what is blocked
    # A new process inherits what is blocked: none of these ends, or is told by, half a Python.
    # `worker_start` lets them through.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_THE_LOADER)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        # Forked only after the imports. DataLoader must not wait for them: interrupted there, it
        # loses its workers, and they print tracebacks.
        context.Process(target=_nothing, daemon=True).start()
    except BaseException:
        _end()
        raise
    return context


def _nothing() -> None:
    """What the first process does, which is there to be waited for."""


def _end() -> None:
    """Ends the fork server in the middle of its imports, which look at nothing."""
    server: Any = forkserver._forkserver
    if server._forkserver_pid is not None:
        os.kill(server._forkserver_pid, signal.SIGKILL)
    server._stop()
