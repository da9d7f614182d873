"""A rank that is hurt from within: ``python hurt.py RANK KIND WHAT NUMBER MODULE RUN_FOLDER``.

The module runs as ever on all ranks; one of them, by the kind:

- ``kill``: dies by SIGKILL just before the NUMBER-th file event that fits the pattern WHAT;
- ``slow``: takes NUMBER seconds longer for each file event that fits the pattern WHAT;
- ``poison``: its NUMBER batches from the WHAT-th of this start on have sound that is no number.
"""

import fnmatch
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from kill_at import watch_files


def kill(run: Path, pattern: str, number: str) -> None:
    """See the module."""
    left = count(int(number) - 1, -1)

    def tell(described: str) -> None:
        if fnmatch.fnmatchcase(described, pattern) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_files(run, tell)


def slow(run: Path, pattern: str, seconds: str) -> None:
    """See the module."""

    def tell(described: str) -> None:
        if fnmatch.fnmatchcase(described, pattern):
            time.sleep(float(seconds))

    watch_files(run, tell)


def poison(run: Path, first: str, number: str) -> None:
    """See the module."""
    import torch

    from data_sharding.batch import TripleBatch
    from data_sharding.stream.loader import TripleLoader

    whole = TripleLoader.batches
    bad = range(int(first), int(first) + int(number))

    def batches(self: TripleLoader, samples_consumed: int = 0) -> Iterator[TripleBatch]:
        for at, batch in enumerate(whole(self, samples_consumed), start=1):
            silent = torch.full_like(batch.waveform, torch.nan)
            yield replace(batch, waveform=silent) if at in bad else batch

    TripleLoader.batches = batches


HURTS: dict[str, Callable[[Path, str, str], None]] = {"kill": kill, "slow": slow, "poison": poison}


def main() -> None:
    rank, kind, what, number, module, run = sys.argv[1:]
    if os.environ["RANK"] == rank:
        HURTS[kind](Path(run), what, number)
    sys.argv = [module, run]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
