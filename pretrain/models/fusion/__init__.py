"""The encoders' outputs and which of them may be used in; one embedding per sample out.

Every fusion takes any subset of the modalities: what a missing one holds changes nothing, and
its encoder gets a gradient of exactly zero. This package must not know what the modalities are
encoded from, nor the objective.
"""

from collections.abc import Mapping

from pretrain.models.fusion.config import FusionConfig
from pretrain.models.fusion.graph import GraphFusion
from pretrain.models.fusion.pooled import AttentionFusion, ConcatFusion, SumFusion
from pretrain.models.fusion.token_level import CoAttentionFusion, CrossAttentionFusion

Fusion = (
    AttentionFusion
    | ConcatFusion
    | SumFusion
    | GraphFusion
    | CoAttentionFusion
    | CrossAttentionFusion
)

FUSIONS: dict[str, type[Fusion]] = {
    "attention": AttentionFusion,
    "concat": ConcatFusion,
    "sum": SumFusion,
    "graph": GraphFusion,
    "co_attention": CoAttentionFusion,
    "cross_attention": CrossAttentionFusion,
}


def build_fusion(encoder_dims: Mapping[str, tuple[int, int]], config: FusionConfig) -> Fusion:
    """The fusion that ``config.fusion`` names.

    Args:
        encoder_dims: By modality, in the order of the columns of ``available``: dimension of
            the embedding, and of a token.
        config: Which fusion, and its sizes.
    """
    return FUSIONS[config.fusion](encoder_dims, config)


__all__ = ["FUSIONS", "AttentionFusion", "Fusion", "FusionConfig", "build_fusion"]
