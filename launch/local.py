"""The ranks of a run as processes of this machine.

torch's own launcher is not used: it answers every failure with exit code 1, so that "saved, start
me again" is lost; SIGUSR2 kills it; and it kills ranks that are still saving after SIGTERM.
"""

import ctypes
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from launch.preemption import SIGNALS
from launch.rendezvous import free_port
from launch.watchdog import START_VARIABLE

GRACE_SECONDS = 30.0
"""After a rank has failed, how long the others may take to end before they are killed."""
POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1

Rank = subprocess.Popen[bytes]


def run_local(run_folder: Path, ranks: int, grace_seconds: float = GRACE_SECONDS) -> int:
    """Train a run with local ranks and wait for them.

    A signal that asks for a stop goes to every rank. When this process dies, so do the ranks.

    Args:
        run_folder: The run; each rank does ``python -m launch.worker RUN_FOLDER``.
        ranks: How many.
        grace_seconds: After a rank has failed, how long the others may take to end.

    Returns:
        0, or the exit code of the first rank that failed (128 + the signal that ended it).
    """
    command = [sys.executable, "-m", "launch.worker", str(run_folder)]
    return run_ranks(command, ranks, grace_seconds, held_up=SIGNALS)


def run_ranks(
    command: list[str],
    ranks: int,
    grace_seconds: float = GRACE_SECONDS,
    held_up: Collection[signal.Signals] = (),
) -> int:
    """`run_local` for any command, with torch's variables for each rank.

    Args:
        command: Program and arguments of each rank.
        ranks: How many.
        grace_seconds: See `run_local`.
        held_up: Signals that wait in each rank until its program asks for them.
    """
    shared = {
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        START_VARIABLE: secrets.token_hex(8),
    }
    started: list[Rank] = []
    with _forwarded_signals(started):
        try:
            for rank in range(ranks):
                started.append(_start(command, _environment(rank, ranks, shared), held_up))
            return _wait(started, grace_seconds)
        finally:
            _kill(started)


def _environment(rank: int, ranks: int, shared: dict[str, str]) -> dict[str, str]:
    environment = os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    # Shared fairly: by default every rank would start a thread for every core.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // ranks)))
    return environment


def _start(
    command: list[str], environment: dict[str, str], held_up: Collection[signal.Signals]
) -> Rank:
    # From before the fork on: until its program starts, a child has our handlers, which would
    # take a signal that was meant for it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    def in_child() -> None:
        _die_with_parent()
        free = [number for number in SIGNALS if number not in {*held_up, *before}]
        for number in free:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, free)

    try:
        # A session of its own: Ctrl-C reaches a rank once, through us.
        return subprocess.Popen(
            command, env=environment, start_new_session=True, preexec_fn=in_child
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _die_with_parent() -> None:
    """In the child: ask Linux for SIGKILL when the launcher is gone, however it went."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(started: list[Rank], grace_seconds: float) -> int:
    """Wait for all; once one has failed, ask the others to stop and bound the wait."""
    while (running := _running(started)) and not _failure(started):
        time.sleep(POLL_SECONDS)
    if failure := _failure(started):
        _tell_signals(started)
    if running:
        deadline = time.monotonic() + grace_seconds
        _signal_all(started, signal.SIGTERM)
        while _running(started) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    return failure


def _running(started: list[Rank]) -> bool:
    return any(process.poll() is None for process in started)


def _tell_signals(started: list[Rank]) -> None:
    for rank, process in enumerate(started):
        if (code := process.poll()) is not None and code < 0:
            print(f"triptych: rank {rank} was ended by signal {-code}", file=sys.stderr, flush=True)


def _failure(started: list[Rank]) -> int:
    """Exit code of a rank that has failed, as a shell would say it; 0 where none has.

    Of several, one that tells a cause: 1 is how a rank ends that lost another.
    """
    codes = [process.poll() for process in started]
    failures = [code if code > 0 else 128 - code for code in codes if code]
    return next((code for code in failures if code != 1), 1 if failures else 0)


@contextmanager
def _forwarded_signals(started: list[Rank]) -> Iterator[None]:
    def forward(number: int, frame: FrameType | None) -> None:
        _signal_all(started, signal.Signals(number))

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_all(started: list[Rank], number: signal.Signals) -> None:
    for process in started:
        process.send_signal(number)


def _kill(started: list[Rank]) -> None:
    """End what is left, the ranks' own children included: each rank leads a process group."""
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
