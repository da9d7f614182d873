"""A backbone with a linear head on one of its representations, trained together."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from data_sharding.schema import MODALITIES
from eval.finetune.inputs import TaskInputs
from pretrain.models import Backbone, Encoded
from pretrain.models.inputs import ModelInputs

LEAST_DEVIATION = 1e-6
"""An entry of the representation that varies less is taken as constant."""


class TunedModel(nn.Module):
    """Standardised representation, dropout, linear layer.

    Mean and deviation are those that the training part had before the first step, and stay: the
    head's learning rate so means the same for every backbone. The head starts at zero. Batch norms
    keep the running statistics of pretraining, which a few thousand samples in small batches would
    only blur; their gains and biases learn.

    Args:
        backbone: Trained in place.
        name: The representation.
        inputs: Tell which towers it reads; the others are left alone and never run.
        num_outputs: Classes, or 1 for a number.
        dropout: Share of entries set to 0 in training.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, backbone: Backbone, name: str, inputs: TaskInputs, num_outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = name
        self.towers = inputs.read_by(name)
        dim = backbone.embed_dims[name if name in MODALITIES else "fused"]
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dim, num_outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> "TunedModel":
        """Training or evaluation mode; batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Weights of the backbone that the representation is made by, by name.

        Those of a fusion that belong to a modality which is not read are left alone: they would
        get no gradient, but would decay.
        """
        fused, unread = self.name not in MODALITIES, set(MODALITIES) - set(self.towers)
        return {
            name: parameter
            for name, parameter in self.backbone.named_parameters()
            if parameter.requires_grad
            and (fused or name.startswith("encoders."))
            and not unread & set(name.split("."))
        }

    def represent(
        self, inputs: ModelInputs, available: Bool[Tensor, "batch 3"]
    ) -> Float[Tensor, "batch dim"]:
        """The representation; only the towers that it reads are run."""
        encoded = self.backbone.embed(inputs, self.towers)
        if self.name in MODALITIES:
            return encoded[self.name].pooled
        whole = {name: encoded.get(name) or self._nothing(name, available) for name in MODALITIES}
        return self.backbone.fuse(whole, available)

    def forward(
        self, inputs: ModelInputs, available: Bool[Tensor, "batch 3"]
    ) -> Float[Tensor, "batch output"]:
        """Logits, or a number in units of the training labels' deviation from their mean."""
        standard = (self.represent(inputs, available) - self.mean) / self.scale
        return self.head(self.dropout(standard))

    @torch.no_grad()
    def standardise(self, features: Float[np.ndarray, "row dim"]) -> None:
        """Take mean and deviation of the training part's representation."""
        spread = features.std(axis=0)
        self.mean.copy_(torch.from_numpy(features.mean(axis=0)))
        self.scale.copy_(torch.from_numpy(np.where(spread > LEAST_DEVIATION, spread, 1.0)))

    def _nothing(self, name: str, available: Bool[Tensor, "batch 3"]) -> Encoded:
        """What a fusion is given of a modality that it may not use: what it holds is ignored."""
        device, count = available.device, len(available)
        encoder = self.backbone.encoders[name]
        return Encoded(
            pooled=torch.zeros(count, int(encoder.embed_dim), device=device),  # type: ignore[arg-type]
            tokens=torch.zeros(count, 1, int(encoder.token_dim), device=device),  # type: ignore[arg-type]
            token_mask=torch.zeros(count, 1, dtype=torch.bool, device=device),
        )
