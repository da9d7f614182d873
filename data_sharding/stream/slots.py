"""What a worker does: slots of the order in, one batch of decoded and transformed samples out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from torch.utils.data import Dataset

from data_sharding.batch import (
    BatchBuilder,
    DecodedSample,
    SampleTensors,
    SampleTransform,
    TripleBatch,
)
from data_sharding.decode import Decoder
from data_sharding.reading.reader import ReaderCounters, ShardReader
from data_sharding.schema import DecodeError, SampleFault, ShardError
from data_sharding.stream.blend import BlendOrder
from data_sharding.stream.order import Draws
from data_sharding.stream.substitution import Substitution, fault_of

Prepared = tuple[DecodedSample, SampleTensors]

MAX_REMEMBERED = 10_000
"""Bad samples that a worker knows by heart, so that it does not read them again and again."""


class Slot(NamedTuple):
    """One place of a batch."""

    epoch: int
    sample_id: int
    set_number: int
    slot: int

    @classmethod
    def of(cls, draws: Draws) -> "list[Slot]":
        """The places of a batch in order."""
        columns = (draws.epochs, draws.sample_ids, draws.sets, draws.slots)
        return list(map(cls, *(column.tolist() for column in columns)))


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What a worker sends for a batch.

    Attributes:
        batch: The samples.
        substitutions: Which of them stand in for a bad one.
        counters: What the reading of this batch (and fetching ahead) has cost.
    """

    batch: TripleBatch
    substitutions: tuple[Substitution, ...]
    counters: ReaderCounters


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a worker sends instead of a batch; raised as ShardError in the training process."""

    message: str


class SlotDataset(Dataset):
    """Batches of slots -> batches of samples, in whichever process it is called.

    Args:
        reader: Bytes by sample number.
        decoder: Bytes -> tensors.
        transform: Cuts every sample to fixed shapes.
        order: Finds another sample of the window for a bad one; None lets a bad sample fail.
    """

    def __init__(
        self,
        reader: ShardReader,
        decoder: Decoder,
        transform: SampleTransform,
        order: BlendOrder | None,
    ) -> None:
        self._reader = reader
        self._decoder = decoder
        self._transform = transform
        self._order = order
        self._counted = ReaderCounters()
        self._known_bad: dict[int, SampleFault] = {}

    def __getitems__(self, slots: Sequence[Slot]) -> Delivery | Failure:
        """What DataLoader calls for a whole batch."""
        purpose = "evaluation" if self._order is None else "training"
        builder = BatchBuilder(len(slots), purpose)
        try:
            self._reader.prefetch(slot.sample_id for slot in slots)
            substitutions = self._fill(builder, slots)
        except ShardError as error:
            return Failure(message=str(error))
        return Delivery(
            batch=builder.finish(),
            substitutions=tuple(substitutions),
            counters=self._newly_counted(),
        )

    def _fill(self, builder: BatchBuilder, slots: Sequence[Slot]) -> list[Substitution]:
        """Prepares every slot's sample, or another one of its window."""
        substitutions = []
        for position, slot in enumerate(slots):
            try:
                builder.add(*self._prepare(slot.sample_id, slot.epoch))
            except SampleFault as fault:
                if self._order is None:
                    raise
                other, tensors = self._next_good(self._order, slot, fault)
                builder.add(other, tensors)
                substitutions.append(
                    Substitution(
                        position=position,
                        epoch=slot.epoch,
                        sample_id=slot.sample_id,
                        shard_samples=self._reader.locate(slot.sample_id)[0].samples,
                        fault=fault,
                        replaced_by=other.key,
                    )
                )
        return substitutions

    def _prepare(self, sample_id: int, epoch: int) -> Prepared:
        """Reads, decodes and cuts one sample.

        Raises:
            SampleFault: It is bad.
            ShardError: Its shard cannot be had.
        """
        if sample_id in self._known_bad:
            raise self._known_bad[sample_id]
        try:
            raw = self._reader.read(sample_id)
            sample = self._decoder.decode(raw, epoch)
        except (SampleFault, DecodeError) as error:
            fault = fault_of(self._reader, sample_id, error)
            if len(self._known_bad) < MAX_REMEMBERED:
                self._known_bad[sample_id] = fault
            raise fault from None
        return sample, self._transform(sample)

    def _next_good(self, order: BlendOrder, slot: Slot, fault: SampleFault) -> Prepared:
        """The next sample of the window, in drawn order and cyclic, that is good.

        Raises:
            ShardError: There is none.
        """
        others = order.others(slot.set_number, slot.slot).tolist()
        for sample_id in others:
            try:
                return self._prepare(sample_id, slot.epoch)
            except SampleFault:
                continue
        raise ShardError(
            f"all {len(others) + 1} samples of a window are bad, so none can take the place of "
            f"another; the first: {fault}. Find what is broken with `triptych verify`, and copy "
            "or shard it again"
        )

    def _newly_counted(self) -> ReaderCounters:
        """What the reader has counted since the last batch."""
        now, before = self._reader.counters(), self._counted
        self._counted = now
        names = [field.name for field in fields(ReaderCounters)]
        return ReaderCounters(
            **{name: getattr(now, name) - getattr(before, name) for name in names}
        )
