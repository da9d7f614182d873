"""The energy counters of a host's CPU packages (RAPL), through Linux's powercap files."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pretrain.metrics.energy.counter import CounterError

POWERCAP = Path("/sys/class/powercap")
POLL_SECONDS = 20.0
"""Between two readings; a counter of 65 kJ, as AMD's are, wraps around in 2 min at 500 W."""
MOST_WATTS = 1000.0
"""No package uses so much: in less than its range at this power a counter wraps around once."""


class CpuPackages:
    """The energy of all CPU packages of this host, whatever process uses them.

    Only ``package-*`` zones are read: core, uncore and dram are their parts or lie beside them,
    and psys holds them. A thread reads in between, so that no turn of a counter is missed.

    Source: the Linux kernel's Documentation/power/powercap/powercap.rst.

    Args:
        folder: The powercap class.
        poll_seconds: Between two readings of the thread.
        clock: Seconds.

    Raises:
        CounterError: there is no package, or one cannot be read; the file is usually root's alone.
    """

    def __init__(
        self,
        folder: Path = POWERCAP,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        packages = [
            zone
            for zone in sorted(folder.glob("intel-rapl:*"))
            if _read(zone / "name").startswith("package-")
        ]
        if not packages:
            raise CounterError(f"no intel-rapl package in {folder}")
        self._clock = clock
        self._zones = [_Zone(zone, clock()) for zone in packages]
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._poll, args=(poll_seconds,), name="rapl", daemon=True
        )
        self._thread.start()

    def joules(self) -> dict[str, float]:
        """By package, what it has used since this was made.

        Raises:
            CounterError: one cannot be read, or may have wrapped around more than once.
        """
        with self._lock:
            self._advance()
            return {zone.name: zone.joules() for zone in self._zones}

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _advance(self) -> None:
        now = self._clock()
        for zone in self._zones:
            zone.advance(now)

    def _poll(self, seconds: float) -> None:
        while not self._closed.wait(seconds):
            # Who asks next reads anew, and is told.
            with self._lock, suppress(CounterError):
                self._advance()


class _Zone:
    """One package's counter, followed over its turns."""

    def __init__(self, folder: Path, now: float) -> None:
        self.name = f"{_read(folder / 'name')} ({folder.name})"
        self._file = folder / "energy_uj"
        self._range = _read_number(folder / "max_energy_range_uj")
        self._last, self._read_at = _read_number(self._file), now
        self._total = 0
        self._lost: str | None = None

    def advance(self, now: float) -> None:
        """Add what the counter has grown by."""
        value = _read_number(self._file)
        if (now - self._read_at) * MOST_WATTS * 1e6 >= self._range:
            self._lost = (
                f"{self.name} was not read for {now - self._read_at:.0f} s, in which its counter "
                "may have wrapped around more than once"
            )
        grown = value - self._last
        self._total += grown if grown >= 0 else grown + self._range
        self._last, self._read_at = value, now

    def joules(self) -> float:
        """Sum of what it has grown by; told once where some of it was lost."""
        if self._lost is not None:
            reason, self._lost = self._lost, None
            raise CounterError(reason)
        return self._total / 1e6


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CounterError(f"{path.parent.name}'s {path.name}: {why}") from error


def _read_number(path: Path) -> int:
    text = _read(path)
    try:
        return int(text)
    except ValueError as error:
        raise CounterError(f"{path.parent.name}'s {path.name}: {text!r} is no number") from error
