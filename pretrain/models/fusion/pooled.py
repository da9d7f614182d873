"""Fusions of one vector per modality: attention, concatenation, sum."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded
from pretrain.models.fusion.config import FusionConfig
from pretrain.models.fusion.layers import masked_mean, reduce_layers


class AttentionFusion(nn.Module):
    """``alpha_m = softmax_m(w_m^T h_m)``, ``h = sum_m alpha_m h_m`` over available modalities.

    Each h_m is first brought to the fused dimension by a linear layer and a layer norm. A
    missing modality gets weight 0 through the mask, never a vector of zeros, which a
    classifier could read as a clue.
    """

    def __init__(self, encoder_dims: Mapping[str, tuple[int, int]], config: FusionConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.reduce = reduce_layers(
            {name: embed_dim for name, (embed_dim, _) in encoder_dims.items()}, config.embed_dim
        )
        self.score = nn.ModuleDict(
            {name: nn.Linear(config.embed_dim, 1, bias=False) for name in encoder_dims}
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
        reduced = self._reduced(encoded)
        weights = self._weights(reduced, available)
        stacked = torch.stack(list(reduced.values()), dim=1)  # [batch, modality, embed]
        return (weights.unsqueeze(-1).to(stacked.dtype) * stacked).sum(1)

    def modality_weights(
        self, encoded: Mapping[str, Encoded], available: Bool[Tensor, "batch modality"]
    ) -> Float[Tensor, "batch modality"]:
        """Share of each modality in the fused embedding, in [0, 1], 0 for a missing one."""
        return self._weights(self._reduced(encoded), available)

    def _reduced(self, encoded: Mapping[str, Encoded]) -> dict[str, Tensor]:
        return {name: self.reduce[name](value.pooled) for name, value in encoded.items()}

    def _weights(
        self, reduced: Mapping[str, Tensor], available: Bool[Tensor, "batch modality"]
    ) -> Float[Tensor, "batch modality"]:
        scores = [self.score[name](value) for name, value in reduced.items()]
        logits = torch.cat(scores, dim=1).float()  # [batch, modality]
        # A large negative number, not -inf: a row without any modality must stay finite.
        return logits.masked_fill(~available, -1e9).softmax(1) * available


class ConcatFusion(nn.Module):
    """Each modality reduced, all side by side, then one linear layer.

    Reduced before they are joined, or the widest encoder would fill most of the vector. The
    place of a missing modality holds a learned vector, which no real embedding is likely to
    equal.
    """

    def __init__(self, encoder_dims: Mapping[str, tuple[int, int]], config: FusionConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.reduce = reduce_layers(
            {name: embed_dim for name, (embed_dim, _) in encoder_dims.items()}, config.reduce_dim
        )
        self.missing = nn.Parameter(0.02 * torch.randn(len(encoder_dims), config.reduce_dim))
        self.join = nn.Linear(len(encoder_dims) * config.reduce_dim, config.embed_dim)

    def forward(
        self,
        encoded: Mapping[str, Encoded],
        available: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch embed"]:
        """Fused embedding; arguments as `AttentionFusion.forward`."""
        reduced = [self.reduce[name](value.pooled) for name, value in encoded.items()]
        stacked = torch.stack(reduced, dim=1)  # [batch, modality, reduced]
        filled = torch.where(available.unsqueeze(-1), stacked, self.missing)
        return self.join(filled.flatten(1))


class SumFusion(nn.Module):
    """The reduced modalities summed, over how many there are.

    Divided by their number, or a sample with one modality would be told from one with three
    by its length alone.
    """

    def __init__(self, encoder_dims: Mapping[str, tuple[int, int]], config: FusionConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        self.reduce = reduce_layers(
            {name: embed_dim for name, (embed_dim, _) in encoder_dims.items()}, config.embed_dim
        )

    def forward(
        self,
        encoded: Mapping[str, Encoded],
        available: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch embed"]:
        """Fused embedding; zeros for a row with no modality at all.

        Arguments as `AttentionFusion.forward`.
        """
        reduced = [self.reduce[name](value.pooled) for name, value in encoded.items()]
        return masked_mean(torch.stack(reduced, dim=1), available)
