"""What a reader may spend on slow, failing or remote storage, and what it has spent."""

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_sharding.retry import RetryConfig


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """How shards are read when storage is slow, far away or fails."""

    retry: RetryConfig = field(default_factory=RetryConfig)
    """How often a failed read is tried again before the run fails."""

    cache_folder: Path | None = None
    """Folder on the node's own disk that keeps pieces of remote shards for all processes of the
    node. None keeps nothing: every sample is then fetched anew in each epoch."""

    cache_bytes: int = 64 << 30
    """Most that `cache_folder` ever holds; the pieces unused for longest go first."""

    stuck_seconds: float = 60.0
    """A read that takes longer is named in the log, again after twice that time, and so on."""

    def __post_init__(self) -> None:
        if self.cache_bytes < 1:
            raise ValueError(f"reader.cache_bytes must be at least 1, got {self.cache_bytes}")
        if not self.stuck_seconds > 0.0:
            raise ValueError(f"reader.stuck_seconds must be positive, got {self.stuck_seconds}")


@dataclass(frozen=True, kw_only=True)
class ReaderCounters:
    """What a reader has done so far in its own process.

    Attributes:
        bytes_read: Bytes that came from the shards themselves, by disk or network.
        cache_hits: Pieces of remote shards that the node's cache had.
        cache_misses: Pieces that had to be fetched, for a sample or ahead of it.
        retries: Reads that failed and were tried again.
    """

    bytes_read: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    retries: int = 0


class Tally:
    """Counters that several threads add to.

    Attributes:
        local_bytes: Bytes read from local files; only the reader's own thread adds to it.
    """

    def __init__(self) -> None:
        self.local_bytes = 0
        self._lock = threading.Lock()
        self._counts = ReaderCounters()

    def add(self, bytes_read: int = 0, hits: int = 0, misses: int = 0, retries: int = 0) -> None:
        """Adds to the counts."""
        with self._lock:
            self._counts = ReaderCounters(
                bytes_read=self._counts.bytes_read + bytes_read,
                cache_hits=self._counts.cache_hits + hits,
                cache_misses=self._counts.cache_misses + misses,
                retries=self._counts.retries + retries,
            )

    def retried(self) -> None:
        """Counts one retry; what `retrying` wants to call."""
        self.add(retries=1)

    def counts(self) -> ReaderCounters:
        """The counts so far."""
        return replace(self._counts, bytes_read=self._counts.bytes_read + self.local_bytes)
