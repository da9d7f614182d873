"""One job at a time in a folder, on a shared file system too.

The lock is a file that is created exclusively. Its owner touches it now and then; another process
takes it over when its owner is gone: at once where that can be seen (its process has ended on this
machine, or its Slurm job was queued again), else after the file was not touched for a while. That
while is measured by who waits, on a monotonic clock: neither clock of two machines is believed.
"""

import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from data_sharding.settings import from_json

logger = logging.getLogger(__name__)

STALE_SECONDS = 180.0
"""How long a lock from elsewhere must lie untouched; more than NFS keeps a file's times cached."""

BEATS = 12
"""Touches of the file within that while."""

JOIN_SECONDS = 5.0

SHORT_STALE_SECONDS = 60.0
"""The same for a lock that is held for seconds: its owner is believed dead sooner."""

TURN_SECONDS = 0.2

EXIT_LOST = 2
"""Exit code of a process that lost its lock."""


class HeldError(ValueError):
    """Another process works in the folder."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock.

    Attributes:
        token: Chosen at random.
        host: Name of the machine, for people.
        machine: Names boot and process namespace: within it a process id means something.
        pid: Process id.
        born: When the process started, in ticks since the boot; ids are given anew.
        since: When the lock was taken (UTC), for people.
        job: Slurm's job id.
        restarts: How often Slurm had queued that job again.
    """

    token: str
    host: str
    machine: str
    pid: int
    born: str
    since: str
    job: str | None = None
    restarts: int = 0

    @classmethod
    def here(cls) -> "Holder":
        """This process."""
        return cls(
            token=secrets.token_hex(8),
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            born=_born(os.getpid()),
            since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            job=os.environ.get("SLURM_JOB_ID"),
            restarts=int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        )

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"

    def has_ended(self, asking: "Holder") -> bool | None:
        """Whether the process is gone; None where that cannot be seen from here."""
        if self.job and self.job == asking.job and self.restarts < asking.restarts:
            return True
        return _born(self.pid) != self.born if self.machine == asking.machine else None


def end_at_once(message: str) -> None:
    """Two processes must not write one folder: this one seemed dead, so it is the one to go."""
    print(f"triptych: {message}; this process ends without saving", file=sys.stderr, flush=True)
    os._exit(EXIT_LOST)


@contextmanager
def held(
    path: Path,
    stale_seconds: float = STALE_SECONDS,
    on_lost: Callable[[str], None] = end_at_once,
) -> Iterator[Holder]:
    """Holds the lock at `path` and touches it from a thread.

    Args:
        path: The lock; its folder exists.
        stale_seconds: How long the lock of an owner elsewhere must lie untouched to be taken over;
            that long is waited for it, and its owner must be told the same.
        on_lost: Called in the thread when the lock was taken over: this process seemed dead.

    Raises:
        HeldError: Another process holds it; says who and since when.
    """
    mine = Holder.here()
    _take(path, mine, stale_seconds)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(stale_seconds / BEATS):
            try:
                now = lock_holder(path)
                if ended.is_set():
                    return
                if now is None or now.token != mine.token:
                    return on_lost(f"{path} was taken over by {now or 'an unknown process'}")
                os.utime(path)
            except OSError as error:  # storage may come back before the lock counts as stale
                logger.warning("%s cannot be touched: %s", path, error)

    thread = threading.Thread(target=beat, name="folder-lock", daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        ended.set()
        thread.join(JOIN_SECONDS)
        if (now := lock_holder(path)) is not None and now.token == mine.token:
            path.unlink(missing_ok=True)


@contextmanager
def held_in_turn(
    path: Path,
    wait_seconds: float,
    on_lost: Callable[[str], None] = end_at_once,
) -> Iterator[Holder]:
    """Holds the lock at `path` for some short work, after those who hold it now.

    Args:
        path: The lock; its folder exists.
        wait_seconds: How long to wait for living owners.
        on_lost: As for `held`.

    Raises:
        HeldError: It was held all the while.
    """
    deadline = time.monotonic() + wait_seconds
    with ExitStack() as stack:
        while True:
            try:
                holder = stack.enter_context(held(path, SHORT_STALE_SECONDS, on_lost))
                break
            except HeldError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(TURN_SECONDS)
        yield holder


def _take(path: Path, mine: Holder, stale_seconds: float) -> None:
    while not _create(path, mine):
        content = _read(path)
        if content is None:
            continue  # released just now
        holder = _parse(content)
        gone = holder.has_ended(mine) if holder else None
        if gone is None:
            logger.warning(
                "waiting up to %.0f s for the lock %s of %s",
                stale_seconds, path, holder or "an unknown process",
            )  # fmt: skip
            gone = _lies_untouched(path, stale_seconds)
        if not gone:
            if (now := _read(path)) is None:
                continue
            raise HeldError(f"{path.parent} is in use by {_parse(now) or 'another process'}")
        _evict(path, content)


def _create(path: Path, mine: Holder) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with open(descriptor, "wb") as file:
            file.write(json.dumps(asdict(mine)).encode())
            file.flush()
            os.fsync(descriptor)
    except OSError as error:  # a full disk: an empty lock would be waited for as somebody's
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return True


def _evict(path: Path, content: bytes) -> None:
    """Removes the lock that was judged, and no other: a third process may have been faster."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    if aside.read_bytes() != content and not path.exists():
        os.rename(aside, path)
        return
    aside.unlink()


def _lies_untouched(path: Path, seconds: float) -> bool:
    """Whether the file stays as it is for so long."""
    before, deadline = _state(path), time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(seconds / BEATS / 4)
        if _state(path) != before:
            return False
    return True


def _state(path: Path) -> tuple[int, int] | None:
    try:
        with path.open("rb") as file:  # to open it makes NFS ask the server
            found = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def lock_holder(path: Path) -> Holder | None:
    """Who holds the lock at `path`; None where nobody does, or where it cannot be read."""
    content = _read(path)
    return None if content is None else _parse(content)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _parse(content: bytes) -> Holder | None:
    """None where it was not written to its end, or by something else."""
    try:
        return from_json(Holder, json.loads(content))
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def _born(pid: int) -> str:
    """Field 22 of /proc/PID/stat; empty where no such process lives."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]
