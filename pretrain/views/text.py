"""Text views: masked and dropped tokens."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from pretrain.views.checks import check_probability

MASK_ID, NUM_SPECIAL = 4, 5
"""Ids 0-4 are [PAD], [UNK], [CLS], [SEP] and [MASK] in every vocabulary made by `stats`."""


@dataclass(frozen=True, kw_only=True)
class TextViewConfig:
    """Token masking; the second view is lighter, since it is the lighter view that teaches."""

    mask_probability: tuple[float, float] = (0.3, 0.15)
    """Share of tokens replaced by [MASK] in the first and the second view."""

    delete_probability: tuple[float, float] = (0.0, 0.0)
    """Share of tokens taken out of the first and the second view."""

    def __post_init__(self) -> None:
        for name in ("mask_probability", "delete_probability"):
            for value in getattr(self, name):
                check_probability(f"text.{name}", value)


def mask_tokens(
    token_ids: Int64[Tensor, " token"],
    token_mask: Bool[Tensor, " token"],
    probabilities: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[Int64[Tensor, " token"], Bool[Tensor, " token"]]:
    """Replace tokens by [MASK], then take tokens out; special tokens stay.

    Args:
        token_ids: Padded ids.
        token_mask: True where an id is real.
        probabilities: Share masked and share taken out.
        generator: Drawn from once per token for each of the two.
    """
    draws = torch.from_numpy(generator.random((2, len(token_ids))))
    ordinary = token_mask & (token_ids >= NUM_SPECIAL)
    masked = token_ids.masked_fill(ordinary & (draws[0] < probabilities[0]), MASK_ID)
    kept = token_mask & ~(ordinary & (draws[1] < probabilities[1]))
    ids, mask = torch.zeros_like(token_ids), torch.zeros_like(token_mask)
    count = int(kept.sum())
    ids[:count] = masked[kept]
    mask[:count] = True
    return ids, mask
