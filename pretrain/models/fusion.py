"""Embeddings of the available modalities -> one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """How the modalities' embeddings become one."""

    fusion: Literal["attention"] = "attention"
    """`attention`: each modality weighted by a softmax over the available ones, side by side."""


class AttentionFusion(nn.Module):
    """``alpha_m = softmax_m(w_m^T h_m)`` over available modalities; ``h = [alpha_m h_m]_m``.

    The weighted embeddings stay side by side, and the linear layer that follows (a projector's
    or a probe's) sums them: ``sum_m alpha_m W_m h_m`` is the weighted sum of attention fusion.
    Summed already here, a modality's information drowned in the others' (see README,
    Decisions). A missing modality is a learned vector in its place, never zeros, which a
    classifier could read as a clue; its weight is taken by the others.
    """

    def __init__(self, embed_dims: Mapping[str, int]) -> None:
        super().__init__()
        self.embed_dim = sum(embed_dims.values())
        self.norm = nn.ModuleDict({name: nn.LayerNorm(dim) for name, dim in embed_dims.items()})
        self.score = nn.ModuleDict(
            {name: nn.Linear(dim, 1, bias=False) for name, dim in embed_dims.items()}
        )
        self.missing = nn.ParameterDict(
            {name: nn.Parameter(0.02 * torch.randn(dim)) for name, dim in embed_dims.items()}
        )

    def forward(
        self,
        embeddings: Mapping[str, Float[Tensor, "batch _"]],
        available: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch embed"]:
        """Fused embedding; the learned vectors alone for a row with no modality at all.

        Args:
            embeddings: By modality, in the order of the columns of ``available``.
            available: True where a modality of a row may be used.
        """
        normed = {name: self.norm[name](value) for name, value in embeddings.items()}
        scores = [self.score[name](value) for name, value in normed.items()]
        logits = torch.cat(scores, dim=1).float()  # [batch, modality]
        # A large negative number, not -inf: a row without any modality must stay finite.
        weights = logits.masked_fill(~available, -1e9).softmax(1)
        parts = []
        for column, (name, value) in enumerate(normed.items()):
            weighted = weights[:, column, None].to(value.dtype) * value
            parts.append(torch.where(available[:, column, None], weighted, self.missing[name]))
        return torch.cat(parts, dim=1)
