"""How well a stream keeps up, measured where its batches are taken."""

import time
from dataclasses import dataclass

from data_sharding.stream.slots import Delivery


@dataclass(frozen=True, kw_only=True)
class LoaderHealth:
    """A rank's stream over some stretch of time.

    Attributes:
        samples_per_second: Samples delivered, by the clock.
        wait_share: Share of the time that the taker waited for a batch; near 0 when loading keeps
            up with training.
        cache_hit_share: Share of the wanted pieces of remote shards that the node's cache had;
            None when none was wanted.
        megabytes_per_second: What came from the shards themselves, by disk or network.
        retries: Reads that failed and were tried again.
        substitutions: Bad samples that another one stood in for.
        set_shares: Share of each set in the delivered samples.
    """

    samples_per_second: float
    wait_share: float
    cache_hit_share: float | None
    megabytes_per_second: float
    retries: int
    substitutions: int
    set_shares: tuple[float, ...]

    def values(self) -> dict[str, float]:
        """For a metrics file; without what is unknown."""
        known = {} if self.cache_hit_share is None else {"cache_hit_share": self.cache_hit_share}
        return {
            "samples_per_second": self.samples_per_second,
            "wait_share": self.wait_share,
            "megabytes_per_second": self.megabytes_per_second,
            "retries": float(self.retries),
            "substitutions": float(self.substitutions),
            **known,
        }


class HealthMeter:
    """Adds up what the deliveries of a stream say.

    Args:
        first_ids: First sample number of each set of the stream.
    """

    def __init__(self, first_ids: list[int]) -> None:
        self._first_ids = first_ids
        self._start()

    def note(self, delivery: Delivery, waited_seconds: float) -> None:
        """Counts one batch."""
        self._waited += waited_seconds
        self._substitutions += len(delivery.substitutions)
        self._bytes += delivery.counters.bytes_read
        self._retries += delivery.counters.retries
        self._hits += delivery.counters.cache_hits
        self._wanted += delivery.counters.cache_hits + delivery.counters.cache_misses
        ids = delivery.batch.sample_ids
        below = [int((ids < first).sum()) for first in self._first_ids[1:]]
        for number, (low, high) in enumerate(zip([0, *below], [*below, len(ids)], strict=True)):
            self._set_samples[number] += high - low

    def read(self) -> LoaderHealth:
        """The time since the last call."""
        seconds = max(time.perf_counter() - self._since, 1e-9)
        samples = sum(self._set_samples)
        health = LoaderHealth(
            samples_per_second=samples / seconds,
            wait_share=min(self._waited / seconds, 1.0),
            cache_hit_share=self._hits / self._wanted if self._wanted else None,
            megabytes_per_second=self._bytes / 1e6 / seconds,
            retries=self._retries,
            substitutions=self._substitutions,
            set_shares=tuple(count / max(samples, 1) for count in self._set_samples),
        )
        self._start()
        return health

    def _start(self) -> None:
        self._since = time.perf_counter()
        self._waited = 0.0
        self._bytes = self._retries = self._substitutions = self._hits = self._wanted = 0
        self._set_samples = [0] * len(self._first_ids)
