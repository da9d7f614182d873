"""Imported by the fork server alone, before it starts workers: they leave signals to the loader.

Ctrl-C reaches every process of a terminal's group, and a scheduler's warning every process of a
job. A worker that took it would end, or print a traceback, while the training process wants to
finish its step; that one ends its workers itself.
"""

import atexit
import multiprocessing
import os
import signal

from data_sharding.stream.fork_server import LEFT_TO_THE_LOADER


def _begin_fork_server() -> None:
    # A worker inherits what the fork server does with a signal.
    for number in LEFT_TO_THE_LOADER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_THE_LOADER)
    atexit.register(_end_at_once, os.getpid())


def _end_at_once(fork_server: int) -> None:
    """Spares the fork server, not the workers forked from it, a second of taking torch down."""
    if os.getpid() == fork_server:
        os._exit(0)


if multiprocessing.current_process().name == "MainProcess":
    _begin_fork_server()
