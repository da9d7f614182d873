"""ViT: a transformer over patches."""

import math

from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded, Encoder
from pretrain.models.image.config import ImageConfig


class VitImage(Encoder):
    """ViT with the mean of its patch states as embedding; no dropout.

    Source: Dosovitskiy et al. 2021, arXiv 2010.11929.
    """

    def __init__(self, config: ImageConfig) -> None:
        # Imported late: it takes seconds, and most commands make no encoder.
        from transformers import ViTConfig, ViTModel

        super().__init__()
        self.embed_dim = self.token_dim = config.width
        self.model = ViTModel(
            ViTConfig(
                hidden_size=config.width,
                num_hidden_layers=config.num_layers,
                num_attention_heads=config.num_heads,
                intermediate_size=4 * config.width,
                image_size=config.size_pixels,
                patch_size=config.patch_pixels,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        if config.fixed_patch_projection:
            fix_projection(self.model.embeddings.patch_embeddings.projection)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Encoded:
        """Mean over patches, [CLS] left out."""
        patches = self.model(pixel_values=image).last_hidden_state[:, 1:]
        return Encoded.of_whole(patches.mean(1), patches)


def fix_projection(projection: nn.Conv2d) -> None:
    """Uniform Xavier weights over a patch, no bias, no gradient.

    Source: Chen et al. 2021 (MoCo v3), arXiv 2104.02057, section 4.2 and its code.
    """
    patch_values = projection.weight[0].numel()
    bound = math.sqrt(6.0 / (patch_values + projection.out_channels))
    nn.init.uniform_(projection.weight, -bound, bound)
    assert projection.bias is not None
    nn.init.zeros_(projection.bias)
    projection.requires_grad_(False)
