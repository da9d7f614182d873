"""TripleBatch: the type that leaves this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import get_worker_info

from data_sharding.schema import MODALITIES


@dataclass(frozen=True, kw_only=True)
class DecodedSample:
    """One sample after decoding; a missing modality is None.

    Attributes:
        key: WebDataset key, ``000000-000012`` (shard, row).
        sample_id: Number of the sample in its shard set (or split), from 0.
        epoch: How often the stream has gone through this sample's lane before.
        token_ids: Tokens with the tokenizer's [CLS] and [SEP].
        image: RGB, transparency laid over white, turned as EXIF says.
        waveform: Mono, at the decoder's sample rate, nominally in [-1, 1].
        text: The text that `token_ids` encodes.
        metadata: Content of the sample's JSON: ``id``, ``labels``, ``metadata``.
        alternatives: Modality -> further token ids, pictures or waveforms of the same thing;
            empty unless the decoder was asked for them.
    """

    key: str
    sample_id: int
    epoch: int
    token_ids: Int64[Tensor, "token"] | None
    image: UInt8[Tensor, "3 height width"] | None
    waveform: Float32[Tensor, "time"] | None
    text: str | None
    metadata: Mapping[str, Any] | None
    alternatives: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)

    @property
    def present(self) -> tuple[bool, ...]:
        """Which modalities the sample has, in the order of `MODALITIES`."""
        return tuple(part is not None for part in (self.token_ids, self.image, self.waveform))


@dataclass(frozen=True, kw_only=True)
class SampleTensors:
    """One sample cut to fixed shapes; zeros where its modality is missing."""

    token_ids: Int64[Tensor, "view token"]
    token_mask: Bool[Tensor, "view token"]
    image: UInt8[Tensor, "view 3 height width"]
    waveform: Float32[Tensor, "view time"]


@runtime_checkable
class SampleTransform(Protocol):
    """Cuts one decoded sample to fixed shapes; picklable, random only by (sample_id, epoch)."""

    def __call__(self, sample: DecodedSample) -> SampleTensors:
        """Returns tensors whose shapes are the same for every sample."""
        ...


@dataclass(frozen=True, kw_only=True)
class TripleBatch:
    """Samples of a batch, stacked.

    Attributes:
        keys: WebDataset key of each sample.
        sample_ids: Number of each sample in its shard set (or split).
        epochs: Epoch of each sample's lane.
        token_ids: One or more texts' token ids, padded by the transform.
        token_mask: True at real tokens.
        image: One or more crops of each image, 0..255.
        waveform: One or more clips of each audio.
        present: Columns follow `MODALITIES`.
        valid: False where an evaluation pass repeats a sample to fill its last batch; such rows
            must stay out of every number. All True in training.
        metadata: Content of each sample's JSON in evaluation passes, else empty.
        texts: Each sample's text in evaluation passes, else empty.
    """

    keys: tuple[str, ...]
    sample_ids: Int64[Tensor, "batch"]
    epochs: Int64[Tensor, "batch"]
    token_ids: Int64[Tensor, "batch view token"]
    token_mask: Bool[Tensor, "batch view token"]
    image: UInt8[Tensor, "batch view 3 height width"]
    waveform: Float32[Tensor, "batch view time"]
    present: Bool[Tensor, "batch 3"]
    valid: Bool[Tensor, "batch"]
    metadata: tuple[Mapping[str, Any], ...] = ()
    texts: tuple[str | None, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def slice(self, start: int, stop: int) -> "TripleBatch":
        """Samples `start` to `stop` (not included) as a batch that shares the memory."""
        return TripleBatch(
            **{field.name: getattr(self, field.name)[start:stop] for field in fields(self)}
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TripleBatch":
        """The batch with every tensor on `device`."""
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "TripleBatch":
        """The batch in page-locked memory, from where a GPU copies while it computes."""
        return self._map_tensors(lambda tensor: tensor.pin_memory())

    def _map_tensors(self, change: "TensorChange") -> "TripleBatch":
        return replace(
            self,
            sample_ids=change(self.sample_ids),
            epochs=change(self.epochs),
            token_ids=change(self.token_ids),
            token_mask=change(self.token_mask),
            image=change(self.image),
            waveform=change(self.waveform),
            present=change(self.present),
            valid=change(self.valid),
        )


@runtime_checkable
class TensorChange(Protocol):
    """A function from a tensor to a tensor."""

    def __call__(self, tensor: Tensor, /) -> Tensor:
        """Returns the changed tensor."""
        ...


class BatchBuilder:
    """Stacks transformed samples one by one, so that only one of them is held beside the batch.

    In a worker process the batch is laid out in shared memory from the start.

    Args:
        size: Number of samples to come.
        purpose: ``evaluation`` adds metadata and texts.
    """

    def __init__(self, size: int, purpose: str = "training") -> None:
        self._size = size
        self._cards = purpose == "evaluation"
        self._rows: list[tuple[str, int, int, tuple[bool, ...]]] = []
        self._metadata: list[Mapping[str, Any]] = []
        self._texts: list[str | None] = []
        self._stacks: dict[str, Tensor] = {}

    def add(self, sample: DecodedSample, tensors: SampleTensors) -> None:
        """Copies one sample into the next row."""
        row = len(self._rows)
        for name in SampleTensors.__dataclass_fields__:
            part = getattr(tensors, name)
            if row == 0:
                self._stacks[name] = _room_for(part, self._size)
            self._stacks[name][row] = part
        self._rows.append((sample.key, sample.sample_id, sample.epoch, sample.present))
        if self._cards:
            self._metadata.append(sample.metadata or {})
            self._texts.append(sample.text)

    def finish(self) -> TripleBatch:
        """The batch, once all of its samples are there."""
        assert len(self._rows) == self._size > 0
        keys, sample_ids, epochs, present = zip(*self._rows, strict=True)
        return TripleBatch(
            keys=keys,
            sample_ids=torch.tensor(sample_ids),
            epochs=torch.tensor(epochs),
            present=torch.tensor(present).view(-1, len(MODALITIES)),
            valid=torch.ones(self._size, dtype=torch.bool),
            metadata=tuple(self._metadata),
            texts=tuple(self._texts),
            **self._stacks,
        )


def collate(
    samples: Sequence[DecodedSample],
    tensors: Sequence[SampleTensors],
    purpose: str = "training",
) -> TripleBatch:
    """Stacks transformed samples.

    Args:
        samples: What was decoded; gives keys, ids and which modalities are there.
        tensors: The transform's output for each sample.
        purpose: ``evaluation`` adds metadata and texts.
    """
    builder = BatchBuilder(len(samples), purpose)
    for sample, parts in zip(samples, tensors, strict=True):
        builder.add(sample, parts)
    return builder.finish()


def _room_for(part: Tensor, size: int) -> Tensor:
    """An empty stack of `size` tensors like `part`; shared, as DataLoader's own collate does."""
    shape = (size, *part.shape)
    if get_worker_info() is None:
        return torch.empty(shape, dtype=part.dtype)
    storage = torch.UntypedStorage._new_shared(size * part.numel() * part.element_size())
    return torch.empty(0, dtype=part.dtype).set_(storage).view(shape)
