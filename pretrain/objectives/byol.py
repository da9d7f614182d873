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
from pretrain.loss import weighted_loss
from pretrain.models import Backbone, Cohorts, GroupedMlpHead, HeadConfig, SourceHeads, Views
from pretrain.objectives.base import FUSED, SOURCES, LossReport, Networks
from pretrain.schedules import linear_ramp

PAIRS = (*product(MODALITIES, MODALITIES), (FUSED, FUSED))
"""All directed pairs (predicting, predicted): 3 intra, 6 cross, then the fused one."""


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
        weights = ("intra_weight", "cross_weight", "fused_weight")
        for name in weights:
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"byol.{name} must not be negative, got {getattr(self, name)}")
        if not any(getattr(self, name) for name in weights):
            raise ValueError(f"byol: one of {', '.join(weights)} must be positive")
        for name in ("cross_start_fraction", "cross_ramp_fraction"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"byol.{name} must be in [0, 1], got {getattr(self, name)}")
        if self.cross_weight and self.cross_start_fraction + self.cross_ramp_fraction > 1.0:
            raise ValueError(
                "byol.cross_start_fraction and byol.cross_ramp_fraction add up to more than 1: "
                "the cross weight would never be reached"
            )


class Byol:
    """The objective; its ``weights`` are a pure function of the step.

    Args:
        config: Weights and heads.
        cohorts: Which rows share batch statistics; None is all rows of a call.
    """

    terms: tuple[str, ...] = tuple(
        FUSED if a == FUSED else f"intra_{a}" if a == b else f"cross_{a}_{b}" for a, b in PAIRS
    )

    def __init__(self, config: ByolConfig, cohorts: Cohorts | None = None) -> None:
        self._config = config
        self._cohorts = cohorts

    def networks(self, backbone: Backbone) -> Networks:
        """The online network, and the target as its copy without predictors."""
        online = OnlineNetwork(backbone, self._config.heads, self._cohorts)
        return Networks(online=online, target=TargetNetwork(online))

    def weights(self, step: int, total_steps: int) -> tuple[float, ...]:
        """Weight of each directed pair in the total loss, in the order of `PAIRS`."""
        config = self._config
        start = round(config.cross_start_fraction * total_steps)
        ramp_steps = round(config.cross_ramp_fraction * total_steps)
        num = len(MODALITIES)
        intra = config.intra_weight / num
        cross = config.cross_weight * linear_ramp(step, start, ramp_steps) / (num * (num - 1))
        return tuple(
            config.fused_weight if a == FUSED else intra if a == b else cross for a, b in PAIRS
        )

    def available(self, views: Views) -> Float[Tensor, "term batch"]:
        """1 where both modalities of a pair are there; the fused pair needs any one."""
        return available_pairs(views.present)


def available_pairs(present: Bool[Tensor, "batch 3"]) -> Float[Tensor, "pair batch"]:
    """1 where a row has both sides of a pair."""
    here = {name: present[:, index] for index, name in enumerate(MODALITIES)}
    here[FUSED] = present.any(1)
    return torch.stack([here[source] & here[target] for source, target in PAIRS]).float()


def counted_rows(views: Views) -> Float[Tensor, "source batch"] | None:
    """1 for the rows that batch statistics of a source are taken over; None where all are.

    A row without the source would pull them towards what the encoder makes of nothing.
    """
    if views.complete:
        return None
    return torch.cat([views.present, views.present.any(1, keepdim=True)], dim=1).T.float()


@dataclass(frozen=True)
class Projections:
    """Projector outputs of each modality and of their fusion, and the features before them."""

    by_source: dict[str, Float[Tensor, "view batch embed"]]
    features: dict[str, Float[Tensor, "view batch _"]]


def project(
    backbone: Backbone,
    projectors: nn.Module,
    views: Views,
    fusible: Bool[Tensor, "view batch 3"],
) -> Projections:
    """Both views through backbone and projectors; the encoders see them as one batch."""
    num_views, batch = views.token_ids.shape[:2]
    encoded = backbone.embed(views.flattened())
    embeddings = {name: value.pooled for name, value in encoded.items()}
    embeddings[FUSED] = backbone.fuse(encoded, fusible.flatten(0, 1))
    features = {name: value.unflatten(0, (num_views, batch)) for name, value in embeddings.items()}
    return Projections(
        by_source=projectors(features, counted_rows(views)),
        features=features,
    )


class OnlineNetwork(nn.Module):
    """Backbone, projectors and one predictor per directed pair: what gradients train."""

    def __init__(
        self, backbone: Backbone, heads: HeadConfig, cohorts: Cohorts | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        input_dims = {name: backbone.embed_dims[name] for name in SOURCES}
        self.projectors = SourceHeads(input_dims, heads, cohorts)
        self.predictors = GroupedMlpHead(len(PAIRS), heads.embed_dim, heads, cohorts)

    def forward(
        self,
        views: Views,
        targets: dict[str, Float[Tensor, "view batch embed"]],
        scales: Float[Tensor, " pair"],
        weights: tuple[float, ...],
    ) -> LossReport:
        """Loss of some rows of a global batch.

        Every head runs on every row, and missing rows get weight 0, so that no parameter is
        without a gradient on some rank.

        Args:
            views: The two views of the rows.
            targets: The target network's projections of the same views.
            scales: Per pair, what turns the sum over available rows into this call's share of
                the mean over the global batch.
            weights: Weight of each pair.
        """
        online = project(self.backbone, self.projectors, views, views.subset)
        counted = counted_rows(views)
        predictions = self.predictors(
            torch.stack([online.by_source[a] for a, _ in PAIRS]),
            None if counted is None else torch.stack([counted[SOURCES.index(a)] for a, _ in PAIRS]),
        )
        projections = torch.stack([targets[b] for _, b in PAIRS])
        rows = available_pairs(views.present) * scales.unsqueeze(1)
        total, by_pair = weighted_loss(predictions, projections, rows, rows.new_tensor(weights))
        return LossReport(
            loss=total,
            by_term=by_pair,
            stages={
                "encoder": _detached(online.features),
                "projector": _detached(online.by_source),
                "predictor": dict(zip(Byol.terms, predictions.detach(), strict=True)),
                "target": targets,
            },
        )


def _detached(by_source: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in by_source.items()}


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
