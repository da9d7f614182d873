"""ResNet: residual convolutions in four stages."""

from jaxtyping import Float
from torch import Tensor

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.image.batch_norm import with_float32_statistics
from pretrain.models.image.config import ImageConfig

LAYOUTS = {"resnet18": ("basic", [2, 2, 2, 2], 8), "resnet50": ("bottleneck", [3, 4, 6, 3], 32)}
"""Kind of block, blocks of each stage, last stage's channels over the stem's."""


class ResNetImage(Encoder):
    """ResNet-18 or -50 with the globally pooled last stage as embedding.

    Batch norm as in the paper: in training its statistics are those of the rows of one
    micro-batch on one rank. The running statistics that evaluation uses are each network's
    own: the target's are gathered by the target and never averaged with the online ones.

    Source: He et al. 2016, arXiv 1512.03385.
    """

    def __init__(self, config: ImageConfig) -> None:
        # Imported late: it takes seconds, and most commands make no encoder.
        from transformers import ResNetConfig, ResNetModel

        super().__init__()
        self.embed_dim = self.token_dim = config.width
        block, depths, narrowing = LAYOUTS[config.encoder]
        self.model = ResNetModel(
            ResNetConfig(
                embedding_size=config.width // narrowing,
                hidden_sizes=[config.width // 8 * factor for factor in (1, 2, 4, 8)],
                depths=depths,
                layer_type=block,
            )
        )
        with_float32_statistics(self.model)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Encoded:
        """Pooled features of the last stage."""
        output = self.model(pixel_values=image)
        places = output.last_hidden_state.flatten(2).transpose(1, 2)
        return Encoded.of_whole(output.pooler_output.flatten(1), places)
