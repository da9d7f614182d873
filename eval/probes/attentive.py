"""Attentive probe: a learned query looks at the frozen tokens, and a linear layer at what it saw.

A linear probe reads one embedding of a sample, which an encoder that was never taught to sum up
may make badly; this one finds out by itself which tokens tell. As in Chen et al. 2022 (Context
Autoencoder, arXiv 2202.03026, section 4.1) and Bardes et al. 2024 (V-JEPA, arXiv 2404.08471,
section 4.2), without the latter's feed-forward block. Of a fused representation the tokens of all
encoders that it reads are looked at, and the fusion itself is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

QUERY_STD = 0.02
"""Small: at the start all tokens count about alike, as in a mean."""


@dataclass(frozen=True, kw_only=True)
class AttentiveConfig:
    """The probe and its training, the same for every backbone."""

    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Of AdamW, ascending; all are trained on the same batches, validation chooses. Each falls to
    0 on half a cosine."""
    weight_decay: float = 0.05
    """Of the matrices."""
    epochs: int = 20
    """Passes over the training part; validation chooses after which to stop."""
    batch_size: int = 128
    """Samples of one step."""
    width: int = 64
    """Dimension of keys and values."""
    num_heads: int = 4
    """Parts of the query that look on their own; they divide the width."""

    def __post_init__(self) -> None:
        rates = self.learning_rates
        if not rates or not all(0.0 < rate < float("inf") for rate in rates):
            raise ValueError(f"attentive.learning_rates must be positive numbers, got {rates}")
        if list(rates) != sorted(set(rates)):
            raise ValueError(f"attentive.learning_rates must ascend, got {rates}")
        if not 0.0 <= self.weight_decay < float("inf"):
            raise ValueError(f"attentive.weight_decay must be >= 0, got {self.weight_decay}")
        for name in ("epochs", "batch_size", "width", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"attentive.{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.num_heads:
            raise ValueError(
                f"attentive.num_heads must divide attentive.width, got {self.num_heads} and "
                f"{self.width}"
            )


class AttentiveHead(nn.Module):
    """Cross-attention of one learned query over tokens, then a linear layer.

    The query is multiplied into the keys first, and values are made of what was pooled: the same
    sums in another order, at a sixteenth of the cost.

    Args:
        dims: Dimension of a token, by modality.
        num_outputs: Classes; 1 where the label is a number.
        config: Width and heads.
        generator: Draws the first weights.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        num_outputs: int,
        config: AttentiveConfig,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        heads, width = config.num_heads, config.width // config.num_heads

        def drawn(*shape: int, std: float) -> nn.Parameter:
            return nn.Parameter(std * torch.randn(*shape, generator=generator))

        self.query = drawn(heads, width, std=QUERY_STD)
        self.keys = nn.ParameterDict(
            {name: drawn(heads, width, dim, std=dim**-0.5) for name, dim in dims.items()}
        )
        self.values = nn.ParameterDict(
            {name: drawn(heads, width, dim, std=dim**-0.5) for name, dim in dims.items()}
        )
        # What a bias of the keys comes to: how much a modality is looked at, whatever it holds.
        self.leanings = nn.ParameterDict({name: nn.Parameter(torch.zeros(heads)) for name in dims})
        self.weight = drawn(num_outputs, config.width, std=config.width**-0.5)
        self.bias = nn.Parameter(torch.zeros(num_outputs))

    def attention(
        self,
        tokens: Mapping[str, Float[Tensor, "batch _ _"]],
        masks: Mapping[str, Bool[Tensor, "batch _"]],
    ) -> Float[Tensor, "batch head part"]:
        """Weight of each token, modality after modality.

        They add up to 1, or to 0 where a sample has no token.
        """
        scale = self.query.shape[1] ** -0.5
        logits = torch.cat(
            [
                value @ torch.einsum("hw,hwd->dh", scale * self.query, self.keys[name])
                + self.leanings[name]
                for name, value in tokens.items()
            ],
            dim=1,
        ).transpose(1, 2)
        mask = torch.cat([masks[name] for name in tokens], dim=1)[:, None]
        return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(2) * mask

    def forward(
        self,
        tokens: Mapping[str, Float[Tensor, "batch _ _"]],
        masks: Mapping[str, Bool[Tensor, "batch _"]],
    ) -> Float[Tensor, "batch output"]:
        """Logits of classes, or the standardised number."""
        lengths = [value.shape[1] for value in tokens.values()]
        shares = self.attention(tokens, masks).split(lengths, dim=2)
        seen = torch.stack(
            [
                torch.einsum("bhd,hwd->bhw", share @ value, self.values[name])
                for share, (name, value) in zip(shares, tokens.items(), strict=True)
            ]
        ).sum(0)
        return F.linear(seen.flatten(1), self.weight, self.bias)
