"""Worker processes and prefetch around order, reader, decoder and the caller's transform.

The order is computed in the training process and sent to the workers as lists of slots, so that
workers hold no state: 0, 1 or many of them give the same batches. The loader's own state is one
integer, the number of samples consumed.
"""

import multiprocessing
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch.utils.data import DataLoader, Dataset

from data_sharding.batch import DecodedSample, SampleTensors, SampleTransform, TripleBatch, collate
from data_sharding.decode import Decoder
from data_sharding.manifest import ShardSet
from data_sharding.order import LaneOrder, OrderConfig, Slice
from data_sharding.order import batches as order_batches
from data_sharding.reader import ShardReader
from data_sharding.schema import DecodeError, ShardError

Purpose = Literal["training", "evaluation"]
Slot = tuple[int, int]
"""(epoch, sample_id)."""


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How samples are ordered and how many processes prepare them."""

    num_workers: int = 1
    """Worker processes for each rank; 0 decodes in the training process."""

    prefetch_batches: int = 4
    """Batches that the workers together prepare ahead."""

    order: OrderConfig = field(default_factory=OrderConfig)
    """Constants of the sample order."""

    def __post_init__(self) -> None:
        if self.num_workers < 0 or self.prefetch_batches < 1:
            raise ValueError(
                "loader needs num_workers >= 0 and prefetch_batches >= 1, got "
                f"num_workers={self.num_workers}, prefetch_batches={self.prefetch_batches}"
            )


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a worker sends instead of a batch; raised as ShardError in the training process."""

    message: str


class SlotDataset(Dataset):
    """Slots -> decoded and transformed samples, in whichever process it is called."""

    def __init__(self, reader: ShardReader, decoder: Decoder, transform: SampleTransform) -> None:
        self._reader = reader
        self._decoder = decoder
        self._transform = transform

    def __getitem__(self, slot: Slot) -> tuple[DecodedSample, SampleTensors] | Failure:
        epoch, sample_id = slot
        try:
            raw = self._reader.read(sample_id)
            sample = self._decoder.decode(raw, epoch)
        except ShardError as error:
            return Failure(message=str(error))
        except DecodeError as error:
            entry, _ = self._reader.locate(sample_id)
            return Failure(message=f"{self._reader.shard_set.folder / entry.file}: {error}")
        return sample, self._transform(sample)


@dataclass(frozen=True, kw_only=True)
class Collator:
    """Stacks what `SlotDataset` gives; the first failure stands for the whole batch."""

    purpose: Purpose

    def __call__(
        self, items: list[tuple[DecodedSample, SampleTensors] | Failure]
    ) -> TripleBatch | Failure:
        """Returns the batch, or the first failure among its samples."""
        pairs = []
        for item in items:
            if isinstance(item, Failure):
                return item
            pairs.append(item)
        return collate([pair[0] for pair in pairs], [pair[1] for pair in pairs], self.purpose)


class TripleLoader:
    """One rank's endless stream of batches.

    Args:
        shard_set: A shard set, usually its train split.
        decoder: Bytes -> tensors.
        transform: Cuts every sample to fixed shapes; picklable.
        part: The global batch and this rank's share of it.
        config: Order and worker processes.

    Raises:
        ValueError: The ranks or the lanes do not divide the global batch, or the set has fewer
            blocks than lanes.
    """

    def __init__(
        self,
        shard_set: ShardSet,
        decoder: Decoder,
        transform: SampleTransform,
        part: Slice,
        config: LoaderConfig | None = None,
    ) -> None:
        self.config = config or LoaderConfig()
        self.part = part
        self._order = LaneOrder(shard_set.shard_sizes, self.config.order)
        self._order.batch(0, part)
        self._dataset = SlotDataset(ShardReader(shard_set), decoder, transform)
        self._running: list[Generator[TripleBatch, None, None]] = []

    def batches(self, samples_consumed: int = 0) -> Iterator[TripleBatch]:
        """This rank's share of each global batch from the next unread sample on, without end.

        Args:
            samples_consumed: Samples that all ranks together have taken so far.

        Raises:
            ValueError: `samples_consumed` is no whole number of global batches.
            ShardError: A sample cannot be read or decoded; names shard and key.
        """
        step, rest = divmod(samples_consumed, self.part.global_batch)
        if rest or step < 0:
            raise ValueError(
                f"{samples_consumed} samples consumed is no multiple of the global batch of "
                f"{self.part.global_batch}; resume with the global batch of the stopped run"
            )
        slots = (
            list(zip(draws.epochs.tolist(), draws.sample_ids.tolist(), strict=True))
            for draws in order_batches(self._order, self.part, step)
        )
        loader = _slot_loader(self._dataset, slots, "training", self.config)
        stream = _raise_failures(iter(loader))
        self._running.append(stream)
        return stream

    def close(self) -> None:
        """Ends every stream given out by `batches` and stops its worker processes."""
        while self._running:
            self._running.pop().close()


def evaluation_pass(
    shard_set: ShardSet,
    decoder: Decoder,
    transform: SampleTransform,
    batch_size: int,
    num_workers: int = 0,
) -> Iterator[TripleBatch]:
    """Every sample once, in order, with metadata and texts; the last batch may be smaller.

    Raises:
        ShardError: A sample cannot be read or decoded; names shard and key.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    slots = (
        [(0, sample) for sample in range(start, min(start + batch_size, shard_set.num_samples))]
        for start in range(0, shard_set.num_samples, batch_size)
    )
    dataset = SlotDataset(ShardReader(shard_set), decoder, transform)
    config = LoaderConfig(num_workers=num_workers)
    return _raise_failures(iter(_slot_loader(dataset, slots, "evaluation", config)))


def _raise_failures(
    stream: Iterator[TripleBatch | Failure],
) -> Generator[TripleBatch, None, None]:
    """Passes batches on, and stops the workers when the stream ends, fails or is closed."""
    try:
        for batch in stream:
            if isinstance(batch, Failure):
                raise ShardError(batch.message)
            yield batch
    finally:
        # DataLoader offers no public way; left to the garbage collector, a failed stream's
        # workers would live until its traceback is dropped.
        stop = getattr(stream, "_shutdown_workers", None)
        if stop is not None:
            stop()


def _slot_loader(
    dataset: SlotDataset,
    slots: Iterator[list[Slot]],
    purpose: Purpose,
    config: LoaderConfig,
) -> DataLoader:
    """A DataLoader over given lists of slots.

    Workers come from a fork server that has imported this package once: torchaudio's threads
    deadlock forked children, and a spawned one imports torch anew.
    """
    workers = config.num_workers
    context = multiprocessing.get_context("forkserver") if workers else None
    if context is not None:
        context.set_forkserver_preload(["data_sharding.loader"])
    return DataLoader(
        dataset,
        batch_sampler=_Slots(slots),
        num_workers=workers,
        collate_fn=Collator(purpose=purpose),
        prefetch_factor=-(-config.prefetch_batches // workers) if workers else None,
        multiprocessing_context=context,
    )


class _Slots:
    """The iterable that DataLoader wants as a batch sampler."""

    def __init__(self, slots: Iterator[list[Slot]]) -> None:
        self._slots = slots

    def __iter__(self) -> Iterator[list[Slot]]:
        return self._slots
