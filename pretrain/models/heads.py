"""Projectors and predictors: the two-layer heads of BYOL."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Projector and predictor (Grill et al. 2020, section 3.3: 4096 hidden, 256 out)."""

    hidden_size: int = 512
    """Width of the hidden layer."""

    embed_dim: int = 128
    """Dimension of projections and predictions."""

    norm: Literal["batch", "layer"] = "batch"
    """Norm after the first layer. `batch` takes its statistics per view over the rows of one
    micro-batch on one rank, so its losses depend on how a global batch is cut; `layer` does
    not."""


class MlpHead(nn.Module):
    """Linear - norm - ReLU - linear; no norm on the output.

    Batch norm keeps no running statistics: a head is never used in evaluation, and the
    target network runs on its own batch's statistics (as DeepMind's code does).
    """

    def __init__(self, input_dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(input_dim, config.hidden_size)
        self.norm: nn.Module = (
            nn.BatchNorm1d(config.hidden_size, track_running_stats=False)
            if config.norm == "batch"
            else nn.LayerNorm(config.hidden_size)
        )
        self.contract = nn.Linear(config.hidden_size, config.embed_dim)

    def forward(
        self, features: Float[Tensor, "view batch dim"]
    ) -> Float[Tensor, "view batch embed"]:
        """Batch statistics are taken per view, never over both."""
        hidden = self.expand(features)
        normed = torch.stack([self.norm(view) for view in hidden])
        return self.contract(normed.relu())
