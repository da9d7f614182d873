"""Signs of life of a rank, and the process beside it that watches for them.

The watcher (`launch.watcher`) is a process of its own, so that it sees a rank that holds Python's
lock, waits in an exchange, or was stopped. Rank and watcher share two nameless files: in one the
rank says what it is at; into the other faulthandler writes the stacks of its threads on SIGQUIT.
"""

import ctypes
import faulthandler
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import ParamSpec, TypeVar

from launch.guard_config import VISIBLE_SECONDS, GuardConfig
from launch.preemption import EXIT_STALLED

SIGN_BYTES = 256

START_VARIABLE = "TRIPTYCH_START"
"""What the local launcher names a start by, in the environment of its ranks."""

START_VARIABLES = (
    START_VARIABLE,
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_STEP_ID",
    "MASTER_PORT",
)
"""What the ranks of one start have in common, and no other start has."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A sign of life.

    Attributes:
        count: Signs so far in this start; ranks do the same things in the same order, so the rank
            with the fewest is furthest behind.
        step: Optimizer steps done.
        doing: What the rank is at.
        patience_seconds: How long it may take.
    """

    count: int
    step: int
    doing: str
    patience_seconds: float

    def to_bytes(self) -> bytes:
        """Always of one length: whoever reads at the same time sees no shorter rest."""
        return json.dumps(asdict(self)).encode().ljust(SIGN_BYTES)

    @classmethod
    def read(cls, descriptor: int) -> "Sign":
        """The last one."""
        return cls(**json.loads(os.pread(descriptor, SIGN_BYTES, 0)))


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the watcher is told of its rank."""

    pid: int
    rank: int
    world_size: int
    host: str
    signs: int
    """Descriptor of the file of signs."""

    stacks: int
    """Descriptor of the file of stacks."""

    folder: str
    """Where all ranks of this start report a stall; made when there is one."""

    slack_seconds: float = 2 * VISIBLE_SECONDS
    """How long past its patience a rank may live while its stall is being reported."""


class Watchdog:
    """A rank's own side.

    Args:
        run: Run folder.
        rank: Of this process.
        world_size: Number of ranks.
        config: How long is too long.
    """

    def __init__(self, run: Path, rank: int, world_size: int, config: GuardConfig) -> None:
        self._config = config
        self._sign = Sign(count=0, step=0, doing="", patience_seconds=config.start_minutes * 60)
        self._signs, stacks = os.memfd_create("signs"), os.memfd_create("stacks")
        self._say("starting")
        faulthandler.register(signal.SIGQUIT, file=stacks, all_threads=True)
        _let_signal_exit(EXIT_STALLED)
        watched = Watched(
            pid=os.getpid(),
            rank=rank,
            world_size=world_size,
            host=socket.gethostname(),
            signs=self._signs,
            stacks=stacks,
            folder=str(stall_folder(run, os.environ)),
        )
        # It ends with this process, when its input does.
        self._watcher = subprocess.Popen(
            [sys.executable, "-m", "launch.watcher", json.dumps(asdict(watched))],
            stdin=subprocess.PIPE,
            pass_fds=(watched.signs, watched.stacks),
            start_new_session=True,
        )

    def training(self, step: int) -> None:
        """Say that the run is wired, and at which step it goes on."""
        self._say("first step", step=step)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say that something begins, and that it has ended."""
        self._say(what)
        yield
        self._say(f"after {what}")

    def watch(self, what: str, call: Callable[Given, Result]) -> Callable[Given, Result]:
        """The same call, with a sign of life before and after."""

        def watched(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            with self.doing(what):
                return call(*args, **kwargs)

        return watched

    def alive(self) -> None:
        """Say that what goes on takes long and is not stuck."""
        self._say(self._sign.doing)

    def step_done(self, step: int) -> None:
        """Say that a step was done."""
        self._say("between steps", step=step, patience_seconds=self._config.watchdog_minutes * 60)

    def close(self) -> None:
        """End the watcher."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait()

    def _say(
        self, doing: str, step: int | None = None, patience_seconds: float | None = None
    ) -> None:
        before = self._sign
        self._sign = Sign(
            count=before.count + 1,
            step=before.step if step is None else step,
            doing=doing,
            patience_seconds=patience_seconds or before.patience_seconds,
        )
        os.pwrite(self._signs, self._sign.to_bytes(), 0)


def stall_folder(run: Path, environ: Mapping[str, str]) -> Path:
    """Where the ranks of a start report a stall: the same for all, and no other start's."""
    common = json.dumps([environ.get(name) for name in START_VARIABLES])
    name = f"stall-{hashlib.sha256(common.encode()).hexdigest()[:12]}"
    # A start by hand may have all in common with one before it.
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(run / "stalls" / n for n in names if not (run / "stalls" / n).exists())


def _let_signal_exit(number: int) -> None:
    """Make a signal end this process with its own number as exit code.

    The handler is the C library's `_exit`, to which the number is passed: it needs no Python, and
    so works while another thread holds Python's lock.
    """
    library = ctypes.CDLL(None)
    library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    library.signal.restype = ctypes.c_void_p
    library.signal(number, ctypes.cast(library._exit, ctypes.c_void_p))
