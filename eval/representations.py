"""The representations of a sample that can be probed or searched, by name.

``text``, ``image``, ``audio`` are what the encoders give; ``fused`` is the fusion of whatever a
sample has; ``fused_text``, ``fused_text_image``, ... are the fusion of exactly those modalities,
the others masked, as if the sample had never had them.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from data_sharding.batch import TripleBatch
from data_sharding.schema import MODALITIES
from pretrain.models import Backbone, Encoded

SUBSETS: tuple[str, ...] = (*MODALITIES, "fused")
"""What is probed unless something else is asked for."""

FUSED_SUBSETS: Mapping[str, tuple[str, ...]] = {
    "_".join(("fused", *parts)): parts
    for size in range(1, len(MODALITIES) + 1)
    for parts in combinations(MODALITIES, size)
}
"""Fusions of exactly these modalities: all seven subsets."""

REPRESENTATIONS: tuple[str, ...] = (*SUBSETS, *FUSED_SUBSETS)


def refuse_unknown(names: Sequence[str], option: str) -> None:
    """Refuse an empty list, a repeated name, or one that is no representation.

    Raises:
        ValueError: Names the option and what there is.
    """
    unknown = [name for name in names if name not in REPRESENTATIONS]
    if unknown or not names or len(set(names)) != len(names):
        raise ValueError(
            f"{option} must be different names among {', '.join(REPRESENTATIONS)}, "
            f"got {', '.join(names) or 'none'}"
        )


def modalities_of(name: str) -> tuple[str, ...]:
    """The modalities that a representation may read."""
    if name == "fused":
        return MODALITIES
    return FUSED_SUBSETS.get(name, (name,))


def readable(name: str, present: Bool[np.ndarray, "sample 3"]) -> Bool[np.ndarray, "sample"]:
    """Samples that have all that a representation reads; for ``fused`` any modality will do."""
    if name == "fused":
        return np.asarray(present.any(axis=1))
    columns = [MODALITIES.index(modality) for modality in modalities_of(name)]
    return np.asarray(present[:, columns].all(axis=1))


@torch.no_grad()
def represent(backbone: Backbone, batch: TripleBatch, names: Sequence[str]) -> dict[str, Tensor]:
    """Representations of a preprocessed batch; the encoders run once for all of them.

    Returns:
        By name, [batch, dim]; rows that are not `readable` mean nothing.
    """
    return represent_encoded(backbone, backbone.embed(backbone.inputs(batch)), batch.present, names)


@torch.no_grad()
def represent_encoded(
    backbone: Backbone,
    encoded: Mapping[str, Encoded],
    present: Bool[Tensor, "batch 3"],
    names: Sequence[str],
) -> dict[str, Tensor]:
    """As `represent`, of what the encoders made of the batch."""
    present = present.to(backbone.image_mean.device)
    values = {name: part.pooled for name, part in encoded.items()}
    for name in names:
        if name not in MODALITIES:
            used = torch.tensor([part in modalities_of(name) for part in MODALITIES])
            values[name] = backbone.fuse(encoded, present & used.to(present.device))
    return {name: values[name] for name in names}
