"""Projectors and predictors: the two-layer heads of BYOL."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.cohorts import Cohorts
from pretrain.models.standardize import NormKind, Standardize

USUAL_COHORT = 64
"""Samples that share batch statistics where nothing else is asked for."""


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Projector and predictor (Grill et al. 2020, section 3.3: 4096 hidden, 256 out)."""

    hidden_size: int = 512
    """Width of the hidden layer."""

    embed_dim: int = 128
    """Dimension of projections and predictions."""

    norm: NormKind = "batch"
    """Norm after the first layer. `batch` takes its statistics per view and source over the
    samples of a cohort that have the source, `layer` over the dimensions of each row."""

    norm_samples: int | None = None
    """Consecutive samples of the global batch that share batch statistics: a cohort. Another
    number of ranks or of accumulation steps changes nothing; it must divide the samples of one
    forward pass over all ranks, and costs no communication where it divides a micro-batch. None
    is the divisor of the global batch nearest to 64: as many as one GPU often holds, so that
    most cuts need no exchange, and enough where most samples lack a modality."""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "embed_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"heads.{name} must be positive, got {getattr(self, name)}")
        if self.norm_samples is not None and self.norm_samples < 2:
            raise ValueError(f"heads.norm_samples must be 2 or more, got {self.norm_samples}")

    def cohort_samples(self, global_samples: int) -> int:
        """Samples that share batch statistics in global batches of a size."""
        if self.norm_samples is not None:
            return self.norm_samples
        divisors = [d for d in range(2, global_samples + 1) if global_samples % d == 0]
        return min(divisors, key=lambda d: abs(d - USUAL_COHORT), default=1)


class GroupedLinear(nn.Module):
    """One linear layer per head, in one batched product; each starts as ``nn.Linear`` does."""

    def __init__(self, num_heads: int, input_dim: int, output_dim: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(input_dim)
        self.weight = nn.Parameter(torch.empty(num_heads, input_dim, output_dim))
        self.bias = nn.Parameter(torch.empty(num_heads, output_dim))
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, features: Float[Tensor, "head view batch dim"]
    ) -> Float[Tensor, "head view batch embed"]:
        """Row by row; heads never mix."""
        rows = torch.baddbmm(self.bias.unsqueeze(1), features.flatten(1, 2), self.weight)
        return rows.unflatten(1, features.shape[1:3])


class GroupedGain(nn.Module):
    """A gain and a bias per head, for rows that were standardized."""

    def __init__(self, num_heads: int, dim: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(num_heads, dim))
        self.bias = nn.Parameter(torch.zeros(num_heads, dim))

    def forward(
        self, normed: Float[Tensor, "head view batch dim"]
    ) -> Float[Tensor, "head view batch dim"]:
        """Scaled and shifted."""
        return torch.addcmul(self.bias[:, None, None], normed, self.gain[:, None, None])


class TwoLayers(nn.Module):
    """What a head learns: linear, gain and bias of the norm, linear; for several heads at once."""

    def __init__(self, num_heads: int, input_dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.expand = GroupedLinear(num_heads, input_dim, config.hidden_size)
        self.norm = GroupedGain(num_heads, config.hidden_size)
        self.contract = GroupedLinear(num_heads, config.hidden_size, config.embed_dim)

    def outputs(
        self, normed: Float[Tensor, "head view batch hidden"]
    ) -> Float[Tensor, "head view batch embed"]:
        """What comes after the standardized hidden layer."""
        return self.contract(self.norm(normed).relu())


class GroupedMlpHead(TwoLayers):
    """Linear - norm - ReLU - linear for each of several heads at once; none on the output.

    The norm keeps no running statistics: a head is never used in evaluation, and the target
    network runs on its own batch's (as DeepMind's code does).
    """

    def __init__(
        self, num_heads: int, input_dim: int, config: HeadConfig, cohorts: Cohorts | None = None
    ) -> None:
        super().__init__(num_heads, input_dim, config)
        self.standardize = Standardize(config.norm, cohorts)

    def forward(
        self,
        features: Float[Tensor, "head view batch dim"],
        counted: Float[Tensor, "head batch"] | None = None,
    ) -> Float[Tensor, "head view batch embed"]:
        """The outputs of all heads; ``counted`` is as `Standardize` takes it."""
        return self.outputs(self.standardize(self.expand(features), counted))


class SourceHeads(nn.Module):
    """Such a head per source; inputs may differ in width. All share one exchange of statistics."""

    def __init__(
        self, input_dims: Mapping[str, int], config: HeadConfig, cohorts: Cohorts | None = None
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {name: TwoLayers(1, dim, config) for name, dim in input_dims.items()}
        )
        self.standardize = Standardize(config.norm, cohorts)

    def forward(
        self,
        features: Mapping[str, Float[Tensor, "view batch _"]],
        counted: Float[Tensor, "source batch"] | None = None,
    ) -> dict[str, Float[Tensor, "view batch embed"]]:
        """The outputs by source; ``counted`` has its rows in the order of the sources."""
        heads = {name: head for name, head in self.heads.items() if isinstance(head, TwoLayers)}
        hidden = [head.expand(features[name].unsqueeze(0)) for name, head in heads.items()]
        normed = self.standardize(torch.cat(hidden), counted).split(1)
        return {
            name: head.outputs(rows).squeeze(0)
            for (name, head), rows in zip(heads.items(), normed, strict=True)
        }
