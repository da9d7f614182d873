"""Multimodal BYOL: intra, cross and fused terms, a predictor per direction.

Source: Grill et al. 2020, arXiv 2006.07733, for one modality; the cross terms regress the
target projection of another modality of the same sample, the fused term that of all
modalities from a random subset of them.
"""

import copy
from dataclasses import dataclass, field
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from data_sharding.schema import MODALITIES
from pretrain.loss import all_pairs_loss
from pretrain.models import Backbone, HeadConfig, MlpHead, Views
from pretrain.schedules import linear_ramp

FUSED = "fused"
SOURCES = (*MODALITIES, FUSED)


@dataclass(frozen=True, kw_only=True)
class ByolConfig:
    """Weights of the terms, and the heads."""

    intra_weight: float = 1.0
    """Weight of the mean over modalities of "predict the other view of the same modality"."""

    cross_weight: float = 1.0
    """Weight of the mean over directed pairs of "predict the other modality"."""

    fused_weight: float = 1.0
    """Weight of "predict the fusion of all modalities from the fusion of a subset"."""

    cross_start_fraction: float = 0.05
    """Share of all steps with intra and fused terms alone."""

    cross_ramp_fraction: float = 0.15
    """Share of all steps over which the cross weight then rises linearly to its full value."""

    heads: HeadConfig = field(default_factory=HeadConfig)

    def __post_init__(self) -> None:
        for name in ("intra_weight", "cross_weight", "fused_weight"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"byol.{name} must not be negative, got {getattr(self, name)}")
        for name in ("cross_start_fraction", "cross_ramp_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"byol.{name} must be in [0, 1], got {getattr(self, name)}")


def pair_names() -> tuple[tuple[str, str], ...]:
    """All directed pairs (predicting, predicted): 3 intra, 6 cross, then the fused one."""
    return (*product(MODALITIES, MODALITIES), (FUSED, FUSED))


@dataclass(frozen=True)
class TermWeights:
    """Weight of each directed pair in the total loss, in the order of `pair_names`."""

    by_pair: tuple[float, ...]

    @classmethod
    def at_step(cls, config: ByolConfig, step: int, total_steps: int) -> "TermWeights":
        """The weights in force at optimizer step ``step``; they depend on nothing else."""
        start = round(config.cross_start_fraction * total_steps)
        ramp_steps = round(config.cross_ramp_fraction * total_steps)
        cross = config.cross_weight * linear_ramp(step, start, ramp_steps)
        num = len(MODALITIES)
        weights = []
        for source, target in pair_names():
            if source == FUSED:
                weights.append(config.fused_weight)
            elif source == target:
                weights.append(config.intra_weight / num)
            else:
                weights.append(cross / (num * (num - 1)))
        return cls(tuple(weights))


@dataclass(frozen=True)
class Projections:
    """Projector outputs of each modality and of their fusion, and the features before them."""

    by_source: dict[str, Float[Tensor, "view batch embed"]]
    features: dict[str, Float[Tensor, "view batch _"]]


@dataclass(frozen=True)
class LossReport:
    """The loss to minimise, its terms, and what the health signals look at."""

    loss: Float[Tensor, ""]
    by_pair: Float[Tensor, " pair"]
    online: Projections


def available_pairs(present: Bool[Tensor, "batch 3"]) -> Float[Tensor, "pair batch"]:
    """1 where both modalities of a pair are there; the fused pair needs any one."""
    here = {name: present[:, index] for index, name in enumerate(MODALITIES)}
    here[FUSED] = present.any(1)
    return torch.stack([here[source] & here[target] for source, target in pair_names()]).float()


def project(
    backbone: Backbone,
    projectors: nn.ModuleDict,
    views: Views,
    fusible: Bool[Tensor, "view batch 3"],
) -> Projections:
    """Both views through backbone and projectors; the encoders see them as one batch."""
    num_views, batch = views.token_ids.shape[:2]
    embeddings = backbone.embed(views.flattened())
    embeddings[FUSED] = backbone.fuse(embeddings, fusible.flatten(0, 1))
    features = {name: value.unflatten(0, (num_views, batch)) for name, value in embeddings.items()}
    return Projections(
        by_source={name: projectors[name](value) for name, value in features.items()},
        features=features,
    )


class OnlineNetwork(nn.Module):
    """Backbone, projectors and one predictor per directed pair: what gradients train."""

    def __init__(self, backbone: Backbone, heads: HeadConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.projectors = nn.ModuleDict(
            {name: MlpHead(backbone.embed_dims[name], heads) for name in SOURCES}
        )
        self.predictors = nn.ModuleDict(
            {f"{a}_to_{b}": MlpHead(heads.embed_dim, heads) for a, b in pair_names()}
        )

    def forward(
        self,
        views: Views,
        targets: dict[str, Float[Tensor, "view batch embed"]],
        pair_scales: Float[Tensor, " pair"],
        weights: TermWeights,
    ) -> LossReport:
        """Loss of some rows of a global batch.

        Every head runs on every row, and missing rows get weight 0, so that no parameter is
        without a gradient on some rank.

        Args:
            views: The two views of the rows.
            targets: The target network's projections of the same views.
            pair_scales: Per pair, what turns the sum over available rows into this call's
                share of the mean over the global batch.
            weights: Weight of each pair.
        """
        online = project(self.backbone, self.projectors, views, views.subset)
        predictions = torch.stack(
            [self.predictors[f"{a}_to_{b}"](online.by_source[a]) for a, b in pair_names()]
        )
        projections = torch.stack([targets[b] for _, b in pair_names()])
        rows = available_pairs(views.present) * pair_scales.unsqueeze(1)
        by_pair = all_pairs_loss(predictions, projections, rows)
        loss = (by_pair * by_pair.new_tensor(weights.by_pair)).sum()
        return LossReport(loss=loss, by_pair=by_pair.detach(), online=online)


class TargetNetwork(nn.Module):
    """Backbone and projectors of the slow network; its parameters follow the online ones."""

    def __init__(self, online: OnlineNetwork) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(online.backbone)
        self.projectors = copy.deepcopy(online.projectors)

    @torch.no_grad()
    def forward(self, views: Views) -> dict[str, Float[Tensor, "view batch embed"]]:
        """Projections of both views; the fused one uses all that is present."""
        everything = views.present.expand(2, -1, -1)
        return project(self.backbone, self.projectors, views, everything).by_source
