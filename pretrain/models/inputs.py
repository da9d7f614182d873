"""What the encoders read: one view of a batch, or the two views of a training step."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class ModelInputs:
    """What the encoders read, after views or preprocessing.

    ``image`` lies in [0, 1], in float32 or bfloat16, and ``log_mel`` is as `LogMel` gives it: the
    backbone itself normalises both with its corpus statistics, in float32.
    """

    token_ids: Int64[Tensor, "batch token"]
    token_mask: Bool[Tensor, "batch token"]
    image: Float[Tensor, "batch 3 height width"]
    log_mel: Float[Tensor, "batch mel frame"]


@dataclass(frozen=True)
class Views:
    """Two views of a batch.

    ``present`` says which modalities a sample has; ``subset`` which of them the online
    network's fusion may use in each view (the target's always uses all). ``complete`` is whether
    it is known, without asking the device, that every sample has every modality.
    """

    token_ids: Int64[Tensor, "view batch token"]
    token_mask: Bool[Tensor, "view batch token"]
    image: Float[Tensor, "view batch 3 height width"]
    log_mel: Float[Tensor, "view batch mel frame"]
    present: Bool[Tensor, "batch 3"]
    subset: Bool[Tensor, "view batch 3"]
    complete: bool = False

    def to(self, device: torch.device) -> "Views":
        """The same views on another device."""
        moved = {name: value.to(device) for name, value in self._tensors().items()}
        return Views(**moved, complete=self.complete)

    def rows(self, start: int, stop: int) -> "Views":
        """The views of some of the samples."""
        part = {name: value[:, start:stop] for name, value in self._tensors().items()}
        part["present"] = self.present[start:stop]
        return Views(**part, complete=self.complete)

    def flattened(self) -> ModelInputs:
        """Both views as one batch, the first view's rows first."""
        return ModelInputs(
            token_ids=self.token_ids.flatten(0, 1),
            token_mask=self.token_mask.flatten(0, 1),
            image=self.image.flatten(0, 1),
            log_mel=self.log_mel.flatten(0, 1),
        )

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "complete"}
