"""The BYOL regression, for one pair and for all pairs of a batch at once."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def byol_loss(
    prediction: Float[Tensor, "batch embed"],
    projection: Float[Tensor, "batch embed"],
) -> Float[Tensor, ""]:
    """Mean squared distance between unit vectors, ``2 - 2 cos``, in [0, 4].

    Source: Grill et al. 2020, arXiv 2006.07733, equation 2.

    Args:
        prediction: Predictor output of the online network; gradients flow through it.
        projection: Projector output of the target network; already detached by the caller.
    """
    cosine = F.cosine_similarity(prediction, projection, dim=-1)  # [batch]
    return (2.0 - 2.0 * cosine).mean()


def all_pairs_loss(
    predictions: Float[Tensor, "pair view batch embed"],
    projections: Float[Tensor, "pair view batch embed"],
    row_weights: Float[Tensor, "pair batch"],
) -> Float[Tensor, " pair"]:
    """Weighted ``2 - 2 cos`` of every directed pair, summed over the two view directions.

    View v of the prediction is compared with the other view of the target, and the two
    directions are summed, not averaged (as DeepMind, lightly and solo-learn do), so a
    pair's value lies in [0, 8] when its row weights sum to 1. Computed in float32 whatever
    the inputs' dtype.

    Args:
        predictions: Predictor outputs, one predictor per directed pair.
        projections: Target projections of the modality each pair predicts, detached.
        row_weights: 0 where a modality of the pair is missing, else one over the number of
            available rows of the pair in the global batch.
    """
    q = F.normalize(predictions.float(), dim=-1)
    z = F.normalize(projections.float(), dim=-1).flip(1)  # the other view
    cosine = (q * z).sum(-1)  # [pair, view, batch]
    return ((2.0 - 2.0 * cosine).sum(1) * row_weights).sum(-1)
