"""Terms that are means over the rows that have what a term needs; shared by the baselines."""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from data_sharding.schema import MODALITIES
from pretrain.models import Backbone, Views
from pretrain.objectives.base import FUSED, LossReport


def rows_with(
    present: Bool[Tensor, "batch 3"], needs: Iterable[tuple[str, ...]]
) -> Float[Tensor, "term batch"]:
    """1 where a row has all modalities that a term needs, else 0."""
    columns = [[MODALITIES.index(name) for name in names] for names in needs]
    return torch.stack([present[:, names].all(1) for names in columns]).float()


def embed_views(backbone: Backbone, views: Views) -> dict[str, Float[Tensor, "view batch _"]]:
    """Embedding of each modality, and of the fusion of the views' random subsets."""
    num_views, batch = views.token_ids.shape[:2]
    encoded = backbone.embed(views.flattened())
    embeddings = {name: value.pooled for name, value in encoded.items()}
    embeddings[FUSED] = backbone.fuse(encoded, views.subset.flatten(0, 1))
    return {name: value.unflatten(0, (num_views, batch)) for name, value in embeddings.items()}


def report_of(
    values: Float[Tensor, "term batch"],
    shares: Float[Tensor, "term batch"],
    weights: tuple[float, ...],
    embeddings: Mapping[str, Float[Tensor, "view batch _"]],
) -> LossReport:
    """The weighted sum of all terms.

    Args:
        values: Of each term and row; anything finite where a row lacks what the term needs.
        shares: What a row counts in each term; 0 where it lacks what the term needs.
        weights: Of each term.
        embeddings: For the health signals.
    """
    by_term = (values * shares).sum(1)
    return LossReport(
        loss=(by_term * by_term.new_tensor(weights)).sum(),
        by_term=by_term.detach(),
        stages={"encoder": {name: value.detach() for name, value in embeddings.items()}},
    )
