"""Names reads that are stuck: a dead NFS server or object store hangs without any error.

A thread that reads says what it is at by one assignment to its `Slot`; a single watchdog thread per
process looks at all slots now and then.
"""

import logging
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger(__name__)

SHORTEST_NAP_SECONDS, LONGEST_NAP_SECONDS = 0.02, 5.0

_LOCK = threading.Lock()
_SLOTS: "weakref.WeakSet[Slot]" = weakref.WeakSet()
_WATCHDOG: threading.Thread | None = None
_WAKE = threading.Event()
"""Set where a new slot is less patient than those that the watchdog naps for."""


class Slot:
    """What one thread is reading right now.

    Attributes:
        doing: (location, first byte), or None between reads. A new tuple for every read.
    """

    def __init__(self, stuck_seconds: float) -> None:
        self.doing: tuple[str, int] | None = None
        self.stuck_seconds = stuck_seconds
        self._seen: tuple[str, int] | None = None
        self._since = 0.0
        self._patience = stuck_seconds

    @property
    def nap_seconds(self) -> float:
        """How long the watchdog may look away."""
        return min(max(self.stuck_seconds / 4, SHORTEST_NAP_SECONDS), LONGEST_NAP_SECONDS)

    def look(self, now: float) -> None:
        """Warns when the same read has been seen for too long; then waits twice as long.

        Args:
            now: A monotonic clock's time in seconds.
        """
        doing = self.doing
        if doing is not self._seen:
            self._seen, self._since, self._patience = doing, now, self.stuck_seconds
        elif doing is not None and now - self._since >= self._patience:
            LOGGER.warning(
                "%s at byte %d: reading has been stuck for %.0f s; is its storage reachable?",
                *doing,
                now - self._since,
            )
            self._patience *= 2


def watched_slot(stuck_seconds: float) -> Slot:
    """A slot that this process's watchdog looks at for as long as it is referred to."""
    global _WATCHDOG
    slot = Slot(stuck_seconds)
    with _LOCK:
        impatient = all(slot.nap_seconds < other.nap_seconds for other in _SLOTS)
        _SLOTS.add(slot)
        if impatient:
            _WAKE.set()
        if _WATCHDOG is None or not _WATCHDOG.is_alive():  # none yet, or lost in a fork
            _WATCHDOG = threading.Thread(target=_watch, name="stuck-reads", daemon=True)
            _WATCHDOG.start()
    return slot


@contextmanager
def watching(stuck_seconds: float, location: str, start: int) -> Iterator[None]:
    """Watches one read of the calling thread."""
    slot = watched_slot(stuck_seconds)
    slot.doing = (location, start)
    try:
        yield
    finally:
        slot.doing = None


def _watch() -> None:
    """Looks at every slot, in naps that fit the least patient one; ends with the last slot."""
    global _WATCHDOG
    while True:
        with _LOCK:
            slots = list(_SLOTS)
            if not slots:
                _WATCHDOG = None
                return
        now = time.monotonic()
        for slot in slots:
            slot.look(now)
        nap_seconds = min(slot.nap_seconds for slot in slots)
        del slots, slot
        _WAKE.wait(nap_seconds)
        _WAKE.clear()
