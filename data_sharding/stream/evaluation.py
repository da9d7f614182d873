"""Finite passes: every sample once, whole batches, the same number of them on every rank."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

import torch

from data_sharding.batch import SampleTransform, TripleBatch
from data_sharding.decode import Decoder
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from data_sharding.stream.order import Slice
from data_sharding.stream.slots import Delivery, Slot, SlotDataset
from data_sharding.stream.workers import deliveries

PREFETCH_BATCHES = 4


def evaluation_pass(
    shard_set: ShardSet,
    decoder: Decoder,
    transform: SampleTransform,
    part: Slice,
    num_workers: int = 0,
) -> Iterator[TripleBatch]:
    """Every sample once over all ranks, in order, with metadata and texts.

    Every rank gets the same number of batches and all of them are full, so that a collective call
    for each batch cannot hang. Where the samples run out, the last one is repeated;
    `TripleBatch.valid` is False there, and such rows must stay out of every number.

    Args:
        shard_set: A shard set or one split of it.
        decoder: Bytes -> tensors.
        transform: Cuts every sample to fixed shapes; picklable.
        part: Samples of a batch over all ranks, and this rank's share.
        num_workers: Worker processes; 0 decodes in this one.

    Raises:
        ShardError: A sample cannot be read or decoded; names shard and key.
        OSError: A worker process died; says what to do.
    """
    num_batches = -(-shard_set.num_samples // part.global_batch)
    last = shard_set.num_samples - 1
    slots = (
        [Slot(0, min(place, last), 0, min(place, last)) for place in _places(number, part)]
        for number in range(num_batches)
    )
    dataset = SlotDataset(ShardReader(shard_set), decoder, transform, None)
    stream = deliveries(dataset, slots, num_workers, PREFETCH_BATCHES)
    return _mark_padding(stream, part, shard_set.num_samples)


def _places(number: int, part: Slice) -> list[int]:
    """This rank's places of a global batch; some may lie beyond the last sample."""
    start = number * part.global_batch
    return [start + place for own in part.stretches for place in own]


def _mark_padding(
    stream: Generator[Delivery, None, None], part: Slice, num_samples: int
) -> Iterator[TripleBatch]:
    with closing(stream):
        for number, delivery in enumerate(stream):
            places = torch.tensor(_places(number, part))
            yield replace(delivery.batch, valid=places < num_samples)
