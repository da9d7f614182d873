"""Imported by the fork server alone, before it starts workers: they leave Ctrl-C to the loader.

Ctrl-C reaches every process of a terminal's group. A worker that took it would print a traceback,
even while it starts; the training process ends its workers itself.
"""

import multiprocessing
import signal

if multiprocessing.current_process().name == "MainProcess":
    # A worker inherits what the fork server does with the signal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
