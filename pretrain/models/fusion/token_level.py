"""Fusions in which the tokens of one modality look at those of another."""

from collections.abc import Mapping
from itertools import permutations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded
from pretrain.models.fusion.config import FusionConfig
from pretrain.models.fusion.layers import (
    FeedForward,
    TokenAttention,
    last_part,
    masked_mean,
    reduce_layers,
)

POOLS = {"text": last_part, "image": masked_mean, "audio": masked_mean}
"""How `cross_attention` makes one vector of a modality's tokens."""


def usable_tokens(
    encoded: Mapping[str, Encoded], available: Bool[Tensor, "batch modality"]
) -> dict[str, Bool[Tensor, "batch part"]]:
    """Tokens of each modality that may be looked at: none where it is not available."""
    return {
        name: value.token_mask & available[:, index : index + 1]
        for index, (name, value) in enumerate(encoded.items())
    }


class CoAttentionBlock(nn.Module):
    """Each modality's tokens look at those of each other one, then pass a feed-forward layer.

    With two modalities this is the co-attentional transformer layer of ViLBERT; with three,
    what a token hears from the others is averaged over the available ones.
    """

    def __init__(self, names: tuple[str, ...], width: int, num_heads: int) -> None:
        super().__init__()
        self.attend = nn.ModuleDict(
            {f"{a}_to_{b}": TokenAttention(width, num_heads) for a, b in permutations(names, 2)}
        )
        self.feed_forward = nn.ModuleDict({name: FeedForward(width) for name in names})

    def forward(
        self,
        tokens: Mapping[str, Float[Tensor, "batch _ width"]],
        masks: Mapping[str, Bool[Tensor, "batch _"]],
    ) -> dict[str, Float[Tensor, "batch _ width"]]:
        """All modalities at once, each from the others as they were before the block."""
        return {
            name: self.feed_forward[name](self._listened(name, tokens, masks)) for name in tokens
        }

    def _listened(
        self, name: str, tokens: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Float[Tensor, "batch part width"]:
        """Mean over the available other modalities of the tokens after looking at each."""
        others = [other for other in tokens if other != name]
        after = torch.stack(
            [
                self.attend[f"{name}_to_{other}"](tokens[name], tokens[other], masks[other])
                for other in others
            ],
            dim=1,
        )  # [batch, other, part, width]
        there = torch.stack([masks[other].any(1) for other in others], dim=1)
        mean = masked_mean(after.flatten(2), there).unflatten(1, after.shape[2:])
        return torch.where(there.any(1)[:, None, None], mean, tokens[name])


class CoAttentionFusion(nn.Module):
    """Co-attentional transformer blocks; the mean of the available modalities' mean tokens.

    ViLBERT multiplies its two pooled vectors; a product has no value for a missing factor, so
    the mean takes its place, followed by a linear layer.

    Source: Lu et al. 2019, arXiv 1908.02265, section 2.2 and figure 2b.
    """

    def __init__(self, encoder_dims: Mapping[str, tuple[int, int]], config: FusionConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        width, names = config.reduce_dim, tuple(encoder_dims)
        self.reduce = reduce_layers(
            {name: token_dim for name, (_, token_dim) in encoder_dims.items()}, width
        )
        self.blocks = nn.ModuleList(
            CoAttentionBlock(names, width, config.num_heads) for _ in range(config.num_layers)
        )
        self.out = nn.Linear(width, config.embed_dim)

    def forward(
        self,
        encoded: Mapping[str, Encoded],
        available: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch embed"]:
        """Fused embedding; the same constant for every row with no modality at all.

        Args:
            encoded: By modality, in the order of the columns of ``available``.
            available: True where a modality of a row may be used.
        """
        masks = usable_tokens(encoded, available)
        tokens = {name: self.reduce[name](value.tokens) for name, value in encoded.items()}
        for block in self.blocks:
            tokens = block(tokens, masks)
        pooled = [masked_mean(tokens[name], masks[name]) for name in encoded]
        return self.out(masked_mean(torch.stack(pooled, dim=1), available))


class CrossAttentionFusion(nn.Module):
    """Self-attention in each modality, and cross-attention from it to all the others.

    Each modality gives two vectors: its tokens after self-attention, and these after they
    looked at the tokens of the other available modalities and at each other again. Text is
    pooled at its last token, the others by their mean. The vectors that there are (four for
    two modalities, one for a single one) are averaged and pass a linear layer.
    """

    def __init__(self, encoder_dims: Mapping[str, tuple[int, int]], config: FusionConfig) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        width, num_heads = config.reduce_dim, config.num_heads
        self.reduce = reduce_layers(
            {name: token_dim for name, (_, token_dim) in encoder_dims.items()}, width
        )
        self.within, self.across, self.after = (
            nn.ModuleDict({name: TokenAttention(width, num_heads) for name in encoder_dims})
            for _ in range(3)
        )
        self.out = nn.Linear(width, config.embed_dim)

    def forward(
        self,
        encoded: Mapping[str, Encoded],
        available: Bool[Tensor, "batch modality"],
    ) -> Float[Tensor, "batch embed"]:
        """Fused embedding; the same constant for every row with no modality at all.

        Arguments as `CoAttentionFusion.forward`.
        """
        masks = usable_tokens(encoded, available)
        own: dict[str, Tensor] = {}
        for name, value in encoded.items():
            reduced = self.reduce[name](value.tokens)
            own[name] = self.within[name](reduced, reduced, masks[name])
        vectors, there = [], []
        for index, name in enumerate(encoded):
            crossed, heard = self._crossed(name, own, masks)
            vectors += [POOLS[name](part, masks[name]) for part in (own[name], crossed)]
            there += [available[:, index], available[:, index] & heard]
        return self.out(masked_mean(torch.stack(vectors, dim=1), torch.stack(there, dim=1)))

    def _crossed(
        self, name: str, own: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, "batch part width"], Bool[Tensor, " batch"]]:
        """Tokens after cross- and self-attention, and whether there was anything to look at."""
        others = [other for other in own if other != name]
        context = torch.cat([own[other] for other in others], dim=1)
        context_mask = torch.cat([masks[other] for other in others], dim=1)
        crossed = self.across[name](own[name], context, context_mask)
        return self.after[name](crossed, crossed, masks[name]), context_mask.any(1)
