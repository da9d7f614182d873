"""Decoders from each embedding to the content of views, and how far off they are."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_sharding.schema import MODALITIES
from pretrain.models import Backbone, Views
from pretrain.objectives.base import FUSED
from pretrain.objectives.content import Content, ContentConfig, ContentOfViews

TOLD = tuple((source, name) for source in ("own", FUSED) for name in MODALITIES)
"""(embedding, modality): each modality is told from its own embedding, then from the fused."""
RECONSTRUCTION_NEEDS = {
    f"reconstruction_{name}" if source == "own" else f"fused_reconstruction_{name}": (name,)
    for source, name in TOLD
}
"""By term, the modalities that a row needs to count in it."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionConfig:
    """A multimodal autoencoder (Ngiam et al. 2011): what it tells, and what that weighs."""

    own_weight: float = 1.0
    """Weight of the mean over modalities of "tell the content from the own embedding"."""

    fused_weight: float = 1.0
    """Weight of the mean over modalities of "tell it from the fusion of a random subset"."""

    hidden_size: int = 512
    """Width of a decoder's hidden layer."""

    content: ContentConfig = field(default_factory=ContentConfig)
    """What is told."""

    def __post_init__(self) -> None:
        for name in ("own_weight", "fused_weight"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(
                    f"reconstruction.{name} must not be negative, got {getattr(self, name)}"
                )
        if self.hidden_size < 1:
            raise ValueError(f"reconstruction.hidden_size must be positive, got {self.hidden_size}")

    def weights(self) -> tuple[float, ...]:
        """Of each reconstruction term."""
        by_source = {"own": self.own_weight, FUSED: self.fused_weight}
        return tuple(by_source[source] / len(MODALITIES) for source, _ in TOLD)


class Reconstruction(nn.Module):
    """``L_recon(x_i, d_i(e(x_i)))`` of each modality, from its own and the fused embedding.

    The fused one tells every modality that a sample has, from whatever subset it was made of.
    The layer that writes a modality is the same for both embeddings, the layer that reads an
    embedding the same for all it tells.

    Source: Ngiam et al. 2011, "Multimodal Deep Learning", section 3.3.
    """

    def __init__(self, backbone: Backbone, config: ReconstructionConfig) -> None:
        super().__init__()
        self.content = ContentOfViews(backbone, config.content)
        width = config.hidden_size
        self.read = nn.ModuleDict(
            {
                source: nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width), nn.GELU())
                for source, dim in backbone.embed_dims.items()
            }
        )
        self.write = nn.ModuleDict(
            {name: nn.Linear(width, size) for name, size in self.content.sizes.items()}
        )

    def forward(
        self, embeddings: Mapping[str, Float[Tensor, "view batch _"]], views: Views
    ) -> Float[Tensor, "term batch"]:
        """Error of each reconstruction term and row, the mean of its two views.

        About 1 for decoders that know nothing; meaningless where a row lacks the modality.
        """
        content = self.content(views)
        hidden = {source: self.read[source](value) for source, value in embeddings.items()}
        return torch.stack(
            [
                ERRORS[name](
                    self.write[name](hidden[name if source == "own" else source]), content
                ).mean(0)
                for source, name in TOLD
            ]
        )


def words_error(
    told: Float[Tensor, "view batch vocab"], content: Content
) -> Float[Tensor, "view batch"]:
    """Multinomial cross-entropy against the bag of words, over that of a uniform guess.

    1 for a decoder that knows nothing, 0 for a row without a word that counts.
    """
    log_shares = told.float().log_softmax(-1)
    of_words = log_shares.gather(-1, content.text) * content.text_mask  # [view, batch, token]
    mean = of_words.sum(-1) / content.text_mask.sum(-1).clamp(min=1)
    return -mean / math.log(told.shape[-1])


def squared_error(
    told: Float[Tensor, "view batch value"], content: Float[Tensor, "view batch value"]
) -> Float[Tensor, "view batch"]:
    """Mean squared difference over a picture or a spectrogram."""
    return (told.float() - content).square().mean(-1)


ERRORS: dict[str, Callable[[Tensor, Content], Tensor]] = {
    "text": words_error,
    "image": lambda told, content: squared_error(told, content.image),
    "audio": lambda told, content: squared_error(told, content.audio),
}
"""By modality: what a decoder told, and the content, to the error of each view and row."""
