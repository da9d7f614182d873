"""TripleBatch: the type that leaves this package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

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
    """

    key: str
    sample_id: int
    epoch: int
    token_ids: Int64[Tensor, "token"] | None
    image: UInt8[Tensor, "3 height width"] | None
    waveform: Float32[Tensor, "time"] | None
    text: str | None
    metadata: Mapping[str, Any] | None

    @property
    def present(self) -> tuple[bool, ...]:
        """Which modalities the sample has, in the order of `MODALITIES`."""
        return tuple(part is not None for part in (self.token_ids, self.image, self.waveform))


@dataclass(frozen=True, kw_only=True)
class SampleTensors:
    """One sample cut to fixed shapes; zeros where its modality is missing."""

    token_ids: Int64[Tensor, "token"]
    token_mask: Bool[Tensor, "token"]
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
        token_ids: Token ids, padded by the transform.
        token_mask: True at real tokens.
        image: One or more crops of each image, 0..255.
        waveform: One or more clips of each audio.
        present: Columns follow `MODALITIES`.
        metadata: Content of each sample's JSON in evaluation passes, else empty.
        texts: Each sample's text in evaluation passes, else empty.
    """

    keys: tuple[str, ...]
    sample_ids: Int64[Tensor, "batch"]
    epochs: Int64[Tensor, "batch"]
    token_ids: Int64[Tensor, "batch token"]
    token_mask: Bool[Tensor, "batch token"]
    image: UInt8[Tensor, "batch view 3 height width"]
    waveform: Float32[Tensor, "batch view time"]
    present: Bool[Tensor, "batch 3"]
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
        )


@runtime_checkable
class TensorChange(Protocol):
    """A function from a tensor to a tensor."""

    def __call__(self, tensor: Tensor, /) -> Tensor:
        """Returns the changed tensor."""
        ...


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
    assert len(samples) == len(tensors) > 0
    cards = purpose == "evaluation"
    return TripleBatch(
        keys=tuple(sample.key for sample in samples),
        sample_ids=torch.tensor([sample.sample_id for sample in samples]),
        epochs=torch.tensor([sample.epoch for sample in samples]),
        token_ids=torch.stack([part.token_ids for part in tensors]),
        token_mask=torch.stack([part.token_mask for part in tensors]),
        image=torch.stack([part.image for part in tensors]),
        waveform=torch.stack([part.waveform for part in tensors]),
        present=torch.tensor([sample.present for sample in samples]).view(-1, len(MODALITIES)),
        metadata=tuple(sample.metadata or {} for sample in samples) if cards else (),
        texts=tuple(sample.text for sample in samples) if cards else (),
    )
