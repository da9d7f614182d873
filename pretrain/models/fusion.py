"""Embeddings of the available modalities -> one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """How the modalities' embeddings become one."""

    fusion: Literal["attention"] = "attention"
    """`attention`: a weighted sum, the weights a softmax over the available modalities."""

    embed_dim: int = 256
    """Dimension of the fused embedding."""


class AttentionFusion(nn.Module):
    """``alpha_m = softmax_m(w_m^T h_m)``, ``h = sum_m alpha_m h_m`` over available modalities.

    Each h_m is first brought to the fused dimension by a linear layer and a layer norm. A
    missing modality gets weight 0 through the mask, never a vector of zeros, which a
    classifier could read as a clue.
    """

    def __init__(self, embed_dims: Mapping[str, int], config: FusionConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.reduce = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(dim, config.embed_dim), nn.LayerNorm(config.embed_dim)
                )
                for name, dim in embed_dims.items()
            }
        )
        self.score = nn.ModuleDict(
            {name: nn.Linear(config.embed_dim, 1, bias=False) for name in embed_dims}
        )

    def forward(
        self,
        encoded: Mapping[str, Encoded],
        available: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch embed"]:
        """Fused embedding; zeros for a row with no modality at all.

        Args:
            encoded: By modality, in the order of the columns of ``available``.
            available: True where a modality of a row may be used.
        """
        reduced = [self.reduce[name](value.pooled) for name, value in encoded.items()]
        scores = [self.score[name](value) for name, value in zip(encoded, reduced, strict=True)]
        logits = torch.cat(scores, dim=1).float()  # [batch, modality]
        # A large negative number, not -inf: a row without any modality must stay finite.
        weights = logits.masked_fill(~available, -1e9).softmax(1) * available
        stacked = torch.stack(reduced, dim=1)  # [batch, modality, embed]
        return (weights.unsqueeze(-1).to(stacked.dtype) * stacked).sum(1)
