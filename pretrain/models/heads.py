"""Projectors and predictors: the two-layer heads of BYOL."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
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
    micro-batch on one rank, those without the modality included, so its losses depend on how a
    global batch is cut and on how many lack a modality; with `layer` they do not."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "embed_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"heads.{name} must be positive, got {getattr(self, name)}")


class GroupedLinear(nn.Module):
    """One linear layer per group, in one batched product; each starts as ``nn.Linear`` does."""

    def __init__(self, num_groups: int, input_dim: int, output_dim: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(input_dim)
        self.weight = nn.Parameter(torch.empty(num_groups, input_dim, output_dim))
        self.bias = nn.Parameter(torch.empty(num_groups, output_dim))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, features: Float[Tensor, "group view batch dim"]
    ) -> Float[Tensor, "group view batch embed"]:
        """Row by row; groups never mix."""
        rows = torch.baddbmm(self.bias.unsqueeze(1), features.flatten(1, 2), self.weight)
        return rows.unflatten(1, features.shape[1:3])


class GroupedNorm(nn.Module):
    """Batch or layer norm with a gain and a bias per group.

    Batch norm takes its statistics per group and view, and keeps no running ones: a head is
    never used in evaluation, and the target network runs on its own batch's statistics (as
    DeepMind's code does).
    """

    def __init__(self, num_groups: int, dim: int, norm: Literal["batch", "layer"]) -> None:
        super().__init__()
        self._norm = norm
        self.gain = nn.Parameter(torch.ones(num_groups, dim))
        self.bias = nn.Parameter(torch.zeros(num_groups, dim))

    def forward(
        self, hidden: Float[Tensor, "group view batch dim"]
    ) -> Float[Tensor, "group view batch dim"]:
        """Normalised, then scaled and shifted."""
        if self._norm == "layer":
            normed = F.layer_norm(hidden, hidden.shape[-1:])
        else:
            # Every (group, view, dim) is a channel of one call.
            columns = hidden.permute(2, 0, 1, 3)
            normed = F.batch_norm(columns.flatten(1), None, None, training=True)
            normed = normed.view(columns.shape).permute(1, 2, 0, 3)
        return torch.addcmul(self.bias[:, None, None], normed, self.gain[:, None, None])


class GroupedMlpHead(nn.Module):
    """Linear - norm - ReLU - linear for each of several groups at once; none on the output."""

    def __init__(self, num_groups: int, input_dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.expand = GroupedLinear(num_groups, input_dim, config.hidden_size)
        self.norm = GroupedNorm(num_groups, config.hidden_size, config.norm)
        self.contract = GroupedLinear(num_groups, config.hidden_size, config.embed_dim)

    def forward(
        self, features: Float[Tensor, "group view batch dim"]
    ) -> Float[Tensor, "group view batch embed"]:
        """The outputs of all groups."""
        return self.contract(self.norm(self.expand(features)).relu())


class MlpHead(nn.Module):
    """The same head for a single source."""

    def __init__(self, input_dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.only = GroupedMlpHead(1, input_dim, config)

    def forward(
        self, features: Float[Tensor, "view batch dim"]
    ) -> Float[Tensor, "view batch embed"]:
        """Batch statistics are taken per view, never over both."""
        return self.only(features.unsqueeze(0)).squeeze(0)
