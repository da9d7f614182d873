"""Which fusion, and its sizes."""

from dataclasses import dataclass
from typing import Literal

TOKEN_LEVEL = ("co_attention", "cross_attention")


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """How the modalities' embeddings become one."""

    fusion: Literal["attention", "concat", "sum", "graph", "co_attention", "cross_attention"] = (
        "attention"
    )
    """`attention`: a weighted sum, the weights a softmax over the available modalities.
    `concat`: each reduced, side by side, then a linear layer. `sum`: the mean of the reduced.
    `graph`: graph convolution over the modalities as nodes. `co_attention`: tokens of each
    modality look at those of each other one. `cross_attention`: tokens look at their own
    modality, then at all others."""

    embed_dim: int = 256
    """Dimension of the fused embedding."""

    reduce_dim: int = 128
    """`concat`: dimension of each modality before they are put side by side. `co_attention`,
    `cross_attention`: width of a token. The others reduce to `embed_dim`."""

    num_layers: int = 1
    """`graph`: graph convolutions. `co_attention`: blocks. The others have one layer."""

    num_heads: int = 4
    """`co_attention`, `cross_attention`: attention heads; divides `reduce_dim`."""

    def __post_init__(self) -> None:
        for name in ("embed_dim", "reduce_dim", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"fusion.{name} must be positive, got {getattr(self, name)}")
        if self.fusion in TOKEN_LEVEL and self.reduce_dim % self.num_heads:
            raise ValueError(
                f"fusion.reduce_dim {self.reduce_dim} is not a multiple of "
                f"fusion.num_heads {self.num_heads}"
            )
