"""What every encoder gives: one embedding for the whole, and its parts for token-level fusion."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Encoded:
    """One modality of a batch after its encoder.

    ``tokens`` are word pieces, patches, places of a feature map or frames, in order; an
    encoder without such parts gives its embedding as the only one. Only token-level fusions
    read them.
    """

    pooled: Float[Tensor, "batch embed"]
    tokens: Float[Tensor, "batch part token_embed"]
    token_mask: Bool[Tensor, "batch part"]

    @classmethod
    def of_whole(
        cls, pooled: Float[Tensor, "batch embed"], tokens: Float[Tensor, "batch part token_embed"]
    ) -> "Encoded":
        """Where every part counts, as the patches of a picture do."""
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return cls(pooled=pooled, tokens=tokens, token_mask=mask)


class Encoder(nn.Module):
    """One modality's tower; its ``forward`` returns `Encoded`."""

    embed_dim: int
    """Dimension of ``pooled``."""

    token_dim: int
    """Dimension of each of ``tokens``."""
