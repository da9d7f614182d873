"""What the step asks of an objective; `byol`, `autoencoder` and `adversarial` answer it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from data_sharding.schema import MODALITIES
from pretrain.models import Backbone, Views

FUSED = "fused"
SOURCES = (*MODALITIES, FUSED)
"""What has an embedding of its own: each modality, and their fusion."""


@dataclass(frozen=True)
class LossReport:
    """The loss to minimise, its terms, and what the health signals look at.

    Attributes:
        loss: The weighted sum of the terms.
        by_term: This call's share of each term before its weight, detached, in the order of
            `Objective.terms`.
        stages: Detached embeddings, stage (``encoder``, ``projector``, ``predictor``,
            ``target``) -> source -> rows; an objective has the stages that it has.
    """

    loss: Float[Tensor, ""]
    by_term: Float[Tensor, " term"]
    stages: Mapping[str, Mapping[str, Float[Tensor, "view batch _"]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Networks:
    """The two networks of an objective.

    Attributes:
        online: Trained by gradient. ``online(views, targets, scales, weights) -> LossReport``,
            where ``targets`` is what ``target(views)`` gave, ``scales`` turns each term's sum
            over available rows into this call's share of its mean over the global batch, and
            ``weights`` are the terms' weights. Every parameter gets a gradient whatever is
            missing, so that the graph is the same on every rank.
        target: Follows the online weights of the same names; never trained. It holds the
            ``backbone`` that is probed and published.
    """

    online: nn.Module
    target: nn.Module


@runtime_checkable
class Objective(Protocol):
    """What is minimised. Pure but for the networks it makes."""

    terms: tuple[str, ...]
    """Names of the terms, for the metrics: ``intra_text``, ``cross_text_image``, ``fused``."""

    def networks(self, backbone: Backbone) -> Networks:
        """Fresh networks around a backbone."""
        ...

    def weights(self, step: int, total_steps: int) -> tuple[float, ...]:
        """Weight of each term at optimizer step ``step``, counted from 0."""
        ...

    def available(self, views: Views) -> Float[Tensor, "term batch"]:
        """1 where a row has what a term needs, else 0."""
        ...
