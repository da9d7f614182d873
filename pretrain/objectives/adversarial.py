"""Adversarial alignment of the modalities' codes: a baseline beside `byol`.

``min_G max_D log D(x) + log(1 - D(G(z)))`` for each directed pair of modalities, anchored by
the reconstruction of the autoencoder, with the same backbone and views.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

import torch
import torch.nn.functional as F
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
from pretrain.schedules import linear_ramp

DIRECTIONS = tuple(permutations(MODALITIES, 2))
"""(from, to): codes of the first are mapped to where those of the second lie."""
NEEDS = RECONSTRUCTION_NEEDS | {f"adversarial_{a}_{b}": (a, b) for a, b in DIRECTIONS}
"""By term, the modalities that a row needs to count in it."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """The game, and the reconstruction that keeps codes from becoming constant."""

    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    """The anchor: constant codes can be told from no others, so the game alone rewards them."""

    adversarial_weight: float = 0.1
    """Weight of the mean over directed pairs of the discriminators' loss."""

    ramp_fraction: float = 0.1
    """Share of all steps over which that weight rises linearly from 0, as Ganin & Lempitsky
    let theirs rise: at first the codes say nothing that would be worth aligning."""

    hidden_size: int = 256
    """Width of the hidden layer of generators and discriminators."""

    def __post_init__(self) -> None:
        if not self.adversarial_weight >= 0.0:
            raise ValueError(
                "adversarial.adversarial_weight must not be negative, got "
                f"{self.adversarial_weight}"
            )
        if not 0.0 <= self.ramp_fraction <= 1.0:
            raise ValueError(
                f"adversarial.ramp_fraction must be in [0, 1], got {self.ramp_fraction}"
            )
        if self.hidden_size < 1:
            raise ValueError(f"adversarial.hidden_size must be positive, got {self.hidden_size}")
        if not any((*self.reconstruction.weights(), self.adversarial_weight)):
            raise ValueError("adversarial: one of the weights must be positive")


class Adversarial:
    """The objective; its ``weights`` are a pure function of the step."""

    terms: tuple[str, ...] = tuple(NEEDS)

    def __init__(self, config: AdversarialConfig) -> None:
        self._config = config

    def networks(self, backbone: Backbone) -> Networks:
        """Backbone, decoders and players, and a target that is a backbone alone."""
        online = AdversarialNetwork(backbone, self._config)
        return Networks(online=online, target=Follower(backbone))

    def weights(self, step: int, total_steps: int) -> tuple[float, ...]:
        """Reconstruction's weights, and the game's after its ramp."""
        config = self._config
        ramp = linear_ramp(step, 0, round(config.ramp_fraction * total_steps))
        game = config.adversarial_weight * ramp / len(DIRECTIONS)
        return (*config.reconstruction.weights(), *[game] * len(DIRECTIONS))

    def available(self, views: Views) -> Float[Tensor, "term batch"]:
        """1 where a row has the modality to tell, or both of a pair."""
        return rows_with(views.present, NEEDS.values())


def reversed_gradient(code: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch embed"]:
    """The same values; the gradient goes back with its sign turned.

    What is behind it climbs the loss that what is before it descends, so one backward pass
    serves both players.

    Source: Ganin & Lempitsky 2015, arXiv 1409.7495, equations 11 and 12.
    """
    return 2.0 * code.detach() - code


class AdversarialNetwork(nn.Module):
    """Backbone, decoders, a generator per direction and a discriminator per modality."""

    def __init__(self, backbone: Backbone, config: AdversarialConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.reconstruction = Reconstruction(backbone, config.reconstruction)
        dims, width = backbone.embed_dims, config.hidden_size
        self.generators = nn.ModuleDict(
            {f"{a}_to_{b}": two_layers(dims[a], width, dims[b]) for a, b in DIRECTIONS}
        )
        # Without its norm a discriminator is outrun: the codes' common offset grows and grows.
        self.discriminators = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(dims[name], elementwise_affine=False),
                    two_layers(dims[name], width, 1),
                )
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
        """Loss of some rows of a global batch; no term reads more than one row at a time.

        Args:
            views: The two views of the rows.
            targets: Nothing.
            scales: Per term, what turns the sum over available rows into this call's share of
                the mean over the global batch.
            weights: Weight of each term.
        """
        embeddings = embed_views(self.backbone, views)
        values = torch.cat([self.reconstruction(embeddings, views), self._game(embeddings)])
        shares = rows_with(views.present, NEEDS.values()) * scales.unsqueeze(1)
        return report_of(values, shares, weights, embeddings)

    def _game(
        self, embeddings: Mapping[str, Float[Tensor, "view batch _"]]
    ) -> Float[Tensor, "direction batch"]:
        """Discriminator's loss of each direction and row, the mean of its two views.

        A modality's own codes are the data that others are to match, and get no gradient from
        being matched; its encoder plays where its codes are the generator's source.
        """
        real = {name: self.discriminators[name](embeddings[name].detach()) for name in MODALITIES}
        losses = []
        for a, b in DIRECTIONS:
            generated = self.generators[f"{a}_to_{b}"](embeddings[a])
            told = self.discriminators[b](reversed_gradient(generated))
            losses.append(discriminator_loss(real[b], told).mean(0))
        return torch.stack(losses)


def two_layers(input_dim: int, hidden_size: int, output_dim: int) -> nn.Sequential:
    """Linear, leaky ReLU, linear; nothing that would make a row depend on another."""
    return nn.Sequential(
        nn.Linear(input_dim, hidden_size), nn.LeakyReLU(0.2), nn.Linear(hidden_size, output_dim)
    )


def discriminator_loss(
    real: Float[Tensor, "view batch 1"], generated: Float[Tensor, "view batch 1"]
) -> Float[Tensor, "view batch"]:
    """``-log D(x) - log(1 - D(G(z)))`` from logits, in float32.

    2 ln 2 = 1.39 where the discriminator cannot tell them apart, 0 where it always can.

    Source: Goodfellow et al. 2014, arXiv 1406.2661, equation 1.
    """
    return (F.softplus(-real.float()) + F.softplus(generated.float())).squeeze(-1)
