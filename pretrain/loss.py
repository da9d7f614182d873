"""The BYOL regression, for all directed pairs of a batch at once.

The plain functions specify the kernel that stands in for them on a GPU.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pretrain.kernels import fused_all_pairs_loss, fused_weighted_loss, runs_fused

EPS = 1e-12
"""Added to squared norms inside the root, so that a zero vector has a finite gradient."""


def all_pairs_loss(
    predictions: Float[Tensor, "pair view batch embed"],
    projections: Float[Tensor, "pair view batch embed"],
    row_weights: Float[Tensor, "pair batch"],
) -> Float[Tensor, " pair"]:
    """Weighted ``2 - 2 cos`` of every directed pair, summed over the two view directions.

    View v of the prediction is compared with the other view of the target, and the two
    directions are summed, not averaged (as DeepMind, lightly and solo-learn do), so a
    pair's value lies in [0, 8] when its row weights sum to 1. Computed in float32 whatever
    the working dtype.

    Source: Grill et al. 2020, arXiv 2006.07733, equation 2.

    Args:
        predictions: Predictor outputs, one predictor per directed pair.
        projections: Target projections of the modality each pair predicts, detached.
        row_weights: 0 where a modality of the pair is missing, else one over the number of
            available rows of the pair in the global batch.
    """
    if runs_fused(predictions):
        return fused_all_pairs_loss(predictions, projections, row_weights, EPS)
    return plain_all_pairs_loss(predictions, projections, row_weights)


def weighted_loss(
    predictions: Float[Tensor, "pair view batch embed"],
    projections: Float[Tensor, "pair view batch embed"],
    row_weights: Float[Tensor, "pair batch"],
    pair_weights: Float[Tensor, " pair"],
) -> tuple[Float[Tensor, ""], Float[Tensor, " pair"]]:
    """The weighted sum of `all_pairs_loss`, and the pairs' losses without a gradient.

    Args:
        predictions: As in `all_pairs_loss`, like the next two.
        projections: Detached.
        row_weights: Of each pair's rows.
        pair_weights: Weight of each pair in the sum; no gradient flows to them.
    """
    if runs_fused(predictions):
        return fused_weighted_loss(predictions, projections, row_weights, pair_weights, EPS)
    return plain_weighted_loss(predictions, projections, row_weights, pair_weights)


def plain_all_pairs_loss(
    predictions: Float[Tensor, "pair view batch embed"],
    projections: Float[Tensor, "pair view batch embed"],
    row_weights: Float[Tensor, "pair batch"],
) -> Float[Tensor, " pair"]:
    """`all_pairs_loss` in plain torch, in float32 at least, on any device."""
    other_view = unit_vectors(projections).flip(1)
    cosines = (unit_vectors(predictions) * other_view).sum((1, 3))  # [pair, batch], of two views
    return ((4.0 - 2.0 * cosines) * row_weights).sum(-1)


def plain_weighted_loss(
    predictions: Float[Tensor, "pair view batch embed"],
    projections: Float[Tensor, "pair view batch embed"],
    row_weights: Float[Tensor, "pair batch"],
    pair_weights: Float[Tensor, " pair"],
) -> tuple[Float[Tensor, ""], Float[Tensor, " pair"]]:
    """`weighted_loss` in plain torch, on any device."""
    by_pair = plain_all_pairs_loss(predictions, projections, row_weights)
    return (by_pair * pair_weights).sum(), by_pair.detach()


def unit_vectors(rows: Float[Tensor, "*batch embed"]) -> Float[Tensor, "*batch embed"]:
    """Rows divided by their length, in float32 at least."""
    wide = rows if rows.dtype == torch.float64 else rows.float()
    return wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + EPS)
