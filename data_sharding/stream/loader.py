"""An endless stream of batches: order, reader, decoder and the caller's transform put together.

The order is computed in the training process and sent to the workers as lists of slots, so that
workers hold no state: 0, 1 or many of them give the same batches. The loader's own state is one
integer, the number of samples consumed.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from data_sharding.batch import SampleTransform, TripleBatch
from data_sharding.decode import Decoder
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ReaderConfig, ShardReader
from data_sharding.stream.blend import BlendOrder
from data_sharding.stream.evaluation import evaluation_pass
from data_sharding.stream.health import HealthMeter, LoaderHealth
from data_sharding.stream.order import OrderConfig, Slice
from data_sharding.stream.slots import Delivery, Slot, SlotDataset
from data_sharding.stream.source import StreamSource
from data_sharding.stream.substitution import FaultBudget, Ledger
from data_sharding.stream.workers import deliveries

__all__ = ["LoaderConfig", "LoaderHealth", "Slice", "TripleLoader", "evaluation_pass"]


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How samples are ordered and read, and how many processes prepare them."""

    num_workers: int = 1
    """Worker processes for each rank; 0 decodes in the training process."""

    prefetch_batches: int = 4
    """Batches that the workers together prepare ahead."""

    order: OrderConfig = field(default_factory=OrderConfig)
    """Constants of the sample order."""

    reader: ReaderConfig = field(default_factory=ReaderConfig)
    """How shards are read when storage is slow, far away or fails."""

    faults: FaultBudget = field(default_factory=FaultBudget)
    """How many bad samples a run bears."""

    def __post_init__(self) -> None:
        if self.num_workers < 0 or self.prefetch_batches < 1:
            raise ValueError(
                "loader needs num_workers >= 0 and prefetch_batches >= 1, got "
                f"num_workers={self.num_workers}, prefetch_batches={self.prefetch_batches}"
            )


class TripleLoader:
    """One rank's endless stream of batches.

    A sample that cannot be read or decoded is replaced by the next good one of its window; all
    other places stay as they were, whatever the number of ranks and workers. Each one is recorded,
    and too many of them fail the run.

    Args:
        source: A shard set, usually its train split, or what `open_stream` gives.
        decoder: Bytes -> tensors.
        transform: Cuts every sample to fixed shapes; picklable.
        part: The global batch and this rank's share of it.
        config: Order, reading and worker processes.
        ledger: This rank's record of replaced samples, JSON lines appended to; None for none.

    Raises:
        ValueError: The ranks or the lanes do not divide the global batch, or a set has fewer
            blocks than lanes.
    """

    def __init__(
        self,
        source: ShardSet | StreamSource,
        decoder: Decoder,
        transform: SampleTransform,
        part: Slice,
        config: LoaderConfig | None = None,
        ledger: Path | None = None,
    ) -> None:
        self.source = StreamSource.of(source) if isinstance(source, ShardSet) else source
        self.config = config or LoaderConfig()
        self.part = part
        self._order = BlendOrder(
            [shard_set.shard_sizes for shard_set in self.source.sets],
            self.source.phases,
            self.config.order,
            part.global_batch,
        )
        reader = ShardReader(self.source.sets, self.config.reader)
        self._dataset = SlotDataset(reader, decoder, transform, self._order)
        self._ledger = Ledger(self.config.faults, ledger)
        self._meter = HealthMeter(self.source.first_ids)
        self._running: list[Generator[TripleBatch, None, None]] = []

    def batches(self, samples_consumed: int = 0) -> Iterator[TripleBatch]:
        """This rank's share of each global batch from the next unread sample on, without end.

        Args:
            samples_consumed: Samples that all ranks together have taken so far.

        Raises:
            ValueError: `samples_consumed` is no whole number of global batches.
            ShardError: A shard cannot be had, or too many samples are bad.
            OSError: A worker process died, or the ledger cannot be written; says what to do.
        """
        step, rest = divmod(samples_consumed, self.part.global_batch)
        if rest or step < 0:
            raise ValueError(
                f"{samples_consumed} samples consumed is no multiple of the global batch of "
                f"{self.part.global_batch}; resume with the global batch of the stopped run"
            )
        slots = (Slot.of(self._order.batch(number, self.part)) for number in count(step))
        config = self.config
        stream = self._taken(
            deliveries(self._dataset, slots, config.num_workers, config.prefetch_batches)
        )
        self._running.append(stream)
        return stream

    def health(self) -> LoaderHealth:
        """How well this rank's stream kept up since the last call (or the loader's start)."""
        return self._meter.read()

    def close(self) -> None:
        """Ends every stream given out by `batches` and stops its worker processes."""
        while self._running:
            self._running.pop().close()

    def _taken(self, stream: Generator[Delivery, None, None]) -> Generator[TripleBatch, None, None]:
        """Records and measures what is handed out."""
        with closing(stream):
            while True:
                began = time.perf_counter()
                delivery = next(stream)
                self._meter.note(delivery, time.perf_counter() - began)
                self._ledger.add(len(delivery.batch), delivery.substitutions)
                yield delivery.batch
