"""A multimodal autoencoder whose modalities are correlated: a baseline beside `byol`.

``min sum_i L_recon(x_i, d_i(e(x_i))) + lambda L_corr``, with the same backbone and views.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_sharding.schema import MODALITIES
from pretrain.models import Backbone, Views
from pretrain.objectives.base import LossReport, Networks
from pretrain.objectives.follower import Follower
from pretrain.objectives.reconstruction import (
    RECONSTRUCTION_NEEDS,
    Reconstruction,
    ReconstructionConfig,
)
from pretrain.objectives.rows import embed_views, report_of, rows_with

CORRELATED = tuple(combinations(MODALITIES, 2))
"""The pairs of modalities; a correlation has no direction."""
NEEDS = RECONSTRUCTION_NEEDS | {f"correlation_{a}_{b}": (a, b) for a, b in CORRELATED}
"""By term, the modalities that a row needs to count in it."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """What is reconstructed, and how much the modalities are to agree."""

    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    """What the embeddings must tell, and what that weighs."""

    correlation_weight: float = 1.0
    """Lambda: weight of the mean over pairs of modalities of minus their correlation. At 1 it
    counts as much as either reconstruction, as the groups of terms of `byol` do."""

    correlation_dim: int = 64
    """Dimension of the linear projections that are correlated."""

    def __post_init__(self) -> None:
        if not self.correlation_weight >= 0.0:
            raise ValueError(
                "autoencoder.correlation_weight must not be negative, got "
                f"{self.correlation_weight}"
            )
        if self.correlation_dim < 1:
            raise ValueError(
                f"autoencoder.correlation_dim must be positive, got {self.correlation_dim}"
            )
        if not any((*self.reconstruction.weights(), self.correlation_weight)):
            raise ValueError("autoencoder: one of the weights must be positive")


class Autoencoder:
    """The objective."""

    terms: tuple[str, ...] = tuple(NEEDS)

    def __init__(self, config: AutoencoderConfig) -> None:
        self._config = config

    def networks(self, backbone: Backbone) -> Networks:
        """Backbone, decoders and projections, and a target that is a backbone alone."""
        online = AutoencoderNetwork(backbone, self._config)
        return Networks(online=online, target=Follower(backbone))

    def weights(self, step: int, total_steps: int) -> tuple[float, ...]:
        """The same at every step."""
        correlation = self._config.correlation_weight / len(CORRELATED)
        return (*self._config.reconstruction.weights(), *[correlation] * len(CORRELATED))

    def available(self, views: Views) -> Float[Tensor, "term batch"]:
        """1 where a row has the modality to tell, or both of a pair."""
        return rows_with(views.present, NEEDS.values())


class AutoencoderNetwork(nn.Module):
    """Backbone, decoders, and a linear projection of each modality to be correlated."""

    def __init__(self, backbone: Backbone, config: AutoencoderConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.reconstruction = Reconstruction(backbone, config.reconstruction)
        self.project = nn.ModuleDict(
            {
                name: nn.Linear(backbone.embed_dims[name], config.correlation_dim)
                for name in MODALITIES
            }
        )

    def forward(
        self,
        views: Views,
        targets: Mapping[str, Tensor],
        scales: Float[Tensor, " term"],
        weights: tuple[float, ...],
    ) -> LossReport:
        """Loss of some rows of a global batch.

        A correlation is taken over the rows of one call, and weighs as many rows: micro-batches
        add up to their mean correlation, not to that of the whole batch.

        Args:
            views: The two views of the rows.
            targets: Nothing.
            scales: Per term, what turns the sum over available rows into this call's share of
                the mean over the global batch.
            weights: Weight of each term.
        """
        embeddings = embed_views(self.backbone, views)
        available = rows_with(views.present, NEEDS.values())
        errors = self.reconstruction(embeddings, views)
        agreement = self._correlation(embeddings, available[len(errors) :])
        values = torch.cat([errors, -agreement.unsqueeze(1).expand(-1, errors.shape[1])])
        return report_of(values, available * scales.unsqueeze(1), weights, embeddings)

    def _correlation(
        self,
        embeddings: Mapping[str, Float[Tensor, "view batch _"]],
        rows: Float[Tensor, "pair batch"],
    ) -> Float[Tensor, " pair"]:
        projected = {name: self.project[name](embeddings[name]) for name in MODALITIES}
        return torch.stack(
            [
                correlation(projected[a], projected[b], row)
                for (a, b), row in zip(CORRELATED, rows, strict=True)
            ]
        )


def correlation(
    first: Float[Tensor, "view batch embed"],
    second: Float[Tensor, "view batch embed"],
    rows: Float[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """Pearson correlation of each dimension over the rows; the mean over dimensions and views.

    In [-1, 1], in float32; 0 for fewer than two rows.

    Source: Chandar et al. 2016, arXiv 1504.07225, section 3, there a sum over dimensions.

    Args:
        first: Projections of one modality.
        second: Those of another, of the same samples.
        rows: 1 for rows that count, else 0.
    """
    weight = rows.view(1, -1, 1)
    count = rows.sum().clamp(min=1.0)
    centred = []
    for value in (first.float(), second.float()):
        mean = (value * weight).sum(1, keepdim=True) / count
        centred.append((value - mean) * weight)
    a, b = centred
    # The rows' number cancels out; eps inside the root: one row has no variance.
    norms = (a.square().sum(1) + 1e-6).rsqrt() * (b.square().sum(1) + 1e-6).rsqrt()
    return ((a * b).sum(1) * norms).mean()
