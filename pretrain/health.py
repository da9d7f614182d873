"""Signals of collapse: a falling loss alone is no evidence that anything is learned."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

COLLAPSED_BELOW = 0.1
"""Normalised std under which a modality's projections are nearly one point."""


def embedding_std(embeddings: Float[Tensor, "*batch embed"]) -> float:
    """Mean std per dimension of unit vectors, times sqrt(embed): 1 isotropic, 0 one point.

    Source: Chen & He 2021, arXiv 2011.10566, section 4.1.
    """
    rows = F.normalize(embeddings.detach().float().flatten(0, -2), dim=-1)
    return float(rows.std(0).mean() * rows.shape[-1] ** 0.5)


def effective_rank(embeddings: Float[Tensor, "*batch embed"]) -> float:
    """RankMe: exp of the entropy of the normalised singular values, in [1, embed].

    Source: Garrido et al. 2023, arXiv 2210.02885, equation 2.
    """
    rows = embeddings.detach().float().flatten(0, -2)
    singular = torch.linalg.svdvals(rows)
    share = singular / singular.sum() + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def health_signals(
    stages: Mapping[str, Mapping[str, Float[Tensor, "view batch _"]]],
) -> dict[str, float]:
    """Std and RankMe of each modality at each stage, never pooled over modalities."""
    signals = {}
    for stage, by_source in stages.items():
        for source, embeddings in by_source.items():
            signals[f"health/std_{stage}_{source}"] = embedding_std(embeddings)
            signals[f"health/rank_{stage}_{source}"] = effective_rank(embeddings)
    return signals


def collapsed(signals: Mapping[str, float]) -> list[str]:
    """The signals that say a modality has shrunk to nearly one point, at any stage."""
    return [
        name
        for name, value in signals.items()
        if name.startswith("health/std_projector_") and value < COLLAPSED_BELOW
    ]
