"""What the fusions are built of: reduction, masked means, attention over tokens."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


def reduce_layers(dims: Mapping[str, int], width: int) -> nn.ModuleDict:
    """Per modality a linear layer to a common width, and a norm so that none is the loudest."""
    return nn.ModuleDict(
        {
            name: nn.Sequential(nn.Linear(dim, width), nn.LayerNorm(width))
            for name, dim in dims.items()
        }
    )


def masked_mean(
    values: Float[Tensor, "batch part embed"], mask: Bool[Tensor, "batch part"]
) -> Float[Tensor, "batch embed"]:
    """Mean over the parts that count; zeros for a row without any."""
    total = values.masked_fill(~mask.unsqueeze(-1), 0.0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def last_part(
    values: Float[Tensor, "batch part embed"], mask: Bool[Tensor, "batch part"]
) -> Float[Tensor, "batch embed"]:
    """The last part that counts; the first one for a row without any."""
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (places * mask).argmax(1)
    return values[torch.arange(values.shape[0], device=mask.device), last]


class TokenAttention(nn.Module):
    """Multi-head attention from one set of tokens to another, residual and norm after.

    Source: Vaswani et al. 2017, arXiv 1706.03762, equation 1 and section 3.2.2.
    """

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        context: Float[Tensor, "batch part width"],
        context_mask: Bool[Tensor, "batch part"],
    ) -> Float[Tensor, "batch token width"]:
        """The tokens after they have looked at the context.

        A row without any context keeps its tokens, but for the norm.
        """
        return self.norm(tokens + self._heard(tokens, context, context_mask))

    def _heard(
        self,
        tokens: Float[Tensor, "batch token width"],
        context: Float[Tensor, "batch part width"],
        context_mask: Bool[Tensor, "batch part"],
    ) -> Float[Tensor, "batch token width"]:
        """What the tokens get from the context, before residual and norm; zeros from none."""
        some = context_mask.any(1)
        # With all keys masked the softmax would be 0 / 0: such a row attends, and is dropped.
        attended = context_mask | ~some.unsqueeze(1)
        mixed = F.scaled_dot_product_attention(
            self._heads(self.query(tokens)),
            self._heads(self.key(context)),
            self._heads(self.value(context)),
            attn_mask=attended[:, None, None, :],
        )
        out = self.out(mixed.transpose(1, 2).flatten(2))
        return out.masked_fill(~some[:, None, None], 0.0)

    def _heads(
        self, states: Float[Tensor, "batch part width"]
    ) -> Float[Tensor, "batch head part channel"]:
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear - GELU - linear, four times as wide inside, residual and norm after."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Float[Tensor, "batch token width"]
    ) -> Float[Tensor, "batch token width"]:
        """Each token by itself."""
        return self.norm(tokens + self.contract(F.gelu(self.expand(tokens))))
