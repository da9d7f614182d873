"""A task's samples as the encoders read them, in memory: epochs decode nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from data_sharding.batch import TripleBatch
from data_sharding.schema import MODALITIES
from eval.card import Task
from eval.free_memory import MEMORY_SHARE, available_bytes
from eval.probes.features import preprocessing_digest
from eval.representations import modalities_of
from eval.samples import TaskSamples, read_samples
from pretrain.models import Backbone
from pretrain.models.inputs import ModelInputs
from pretrain.models.preprocess import to_unit_range

KEPT: Mapping[str, tuple[str, ...]] = {
    "text": ("token_ids", "token_mask"),
    "image": ("image",),
    "audio": ("log_mel",),
}
"""What is kept of each modality: pictures as bytes, sound as its log-mel spectrogram."""


@dataclass(frozen=True, kw_only=True)
class TaskInputs:
    """Labelled samples, decoded and preprocessed."""

    samples: TaskSamples
    modalities: tuple[str, ...]
    """Those that were read; some sample has each of them."""
    tensors: Mapping[str, Tensor]
    """By name in `KEPT`; rows are those of the shards, the unlabelled ones among them."""
    made_by: str
    """What decoded and preprocessed them; see `recipe`."""

    def read_by(self, name: str) -> tuple[str, ...]:
        """The modalities that a representation reads here: another tower is never run."""
        return tuple(part for part in modalities_of(name) if part in self.modalities)

    def present(self, rows: Int64[np.ndarray, "row"], name: str) -> Bool[Tensor, "row 3"]:
        """Which modalities of a representation the samples have."""
        read = np.array([modality in self.read_by(name) for modality in MODALITIES])
        return torch.from_numpy(self.samples.present[rows] & read)

    def rows(self, rows: Int64[np.ndarray, "row"], name: str, device: torch.device) -> ModelInputs:
        """Some samples as the encoders of a representation read them; nothing for the others."""
        assert self.samples.places is not None
        places, count = torch.from_numpy(self.samples.places[rows]), len(rows)
        kept = [part for modality in self.read_by(name) for part in KEPT[modality]]
        found = {part: self.tensors[part][places].to(device) for part in kept}
        if "image" in found:
            found["image"] = to_unit_range(found["image"])
        nothing = {
            "token_ids": torch.zeros(count, 1, dtype=torch.int64, device=device),
            "token_mask": torch.zeros(count, 1, dtype=torch.bool, device=device),
            "image": torch.zeros(count, 3, 1, 1, device=device),
            "log_mel": torch.zeros(count, 1, 1, device=device),
        }
        return ModelInputs(**nothing | found)


def read_inputs(
    backbone: Backbone, task: Task, names: Sequence[str], batch_size: int = 64
) -> TaskInputs:
    """Decode a task once, and keep what the representations read.

    Args:
        backbone: Its decoder and its preprocessing are used, its weights are not.
        task: What to read.
        names: Representations, see `eval.representations`.
        batch_size: Samples decoded at a time.

    Raises:
        ValueError: The inputs would fill too much of the memory; or as `read_samples`.
    """
    wanted = {modality for name in names for modality in modalities_of(name)}
    there = {
        name
        for name in MODALITIES
        if any(shard.present.get(name) for part in task.parts for shard in part.shards)
    }
    modalities = tuple(name for name in MODALITIES if name in wanted & there)
    store = _Store(backbone, task, modalities)
    samples, _ = read_samples(backbone, task, batch_size, {"store": store})
    return TaskInputs(
        samples=samples, modalities=modalities, tensors=store.tensors, made_by=recipe(backbone)
    )


def recipe(backbone: Backbone) -> str:
    """All that decides what a backbone makes of bytes, up to its encoders."""
    return f"{preprocessing_digest(backbone)} {backbone.stats.log_mel}"


class _Store:
    """Keeps every batch it is shown; makes no features."""

    def __init__(self, backbone: Backbone, task: Task, modalities: Sequence[str]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._backbone, self._modalities, self._name = backbone, modalities, task.name
        self._total = sum(part.num_samples for part in task.parts)
        self._filled = 0

    @torch.no_grad()
    def __call__(self, batch: TripleBatch) -> dict[str, np.ndarray]:
        """Copies a batch into its place."""
        found = {part: self._part(batch, part) for name in self._modalities for part in KEPT[name]}
        if self._filled == 0:
            self._make_room(found)
        for part, values in found.items():
            self.tensors[part][self._filled : self._filled + len(batch)] = values
        self._filled += len(batch)
        return {}

    def _part(self, batch: TripleBatch, part: str) -> Tensor:
        if part == "log_mel":
            device = self._backbone.image_mean.device
            return self._backbone.log_mel(batch.waveform[:, 0].to(device)).cpu()
        return getattr(batch, part)[:, 0]

    def _make_room(self, found: Mapping[str, Tensor]) -> None:
        size = sum(self._total * value[0].nbytes for value in found.values())
        free = available_bytes()
        if size > MEMORY_SHARE * free:
            raise ValueError(
                f"task {self._name}: {self._total} preprocessed samples ({', '.join(found)}) would "
                f"take {size / 1e9:.1f} GB of memory, more than half of the {free / 1e9:.1f} GB "
                "that are free; fine-tune fewer representations, or on a machine with more"
            )
        for part, values in found.items():
            self.tensors[part] = torch.empty(self._total, *values.shape[1:], dtype=values.dtype)
