"""Imported by the fork server alone, before it starts workers: they leave signals to the loader.

Ctrl-C reaches every process of a terminal's group, and a scheduler's warning every process of a
job. A worker that took it would end, or print a traceback, while the training process wants to
finish its step; that one ends its workers itself.
"""

import multiprocessing
import signal

if multiprocessing.current_process().name == "MainProcess":
    # A worker inherits what the fork server does with a signal.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
