"""Normalised pixels -> one embedding per picture."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel, ViTConfig, ViTModel

from pretrain.models.encoded import Encoded


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """A vision encoder trained from scratch."""

    encoder: Literal["resnet18", "vit"] = "vit"
    """`resnet18` (He et al. 2016, arXiv 1512.03385) or `vit` (Dosovitskiy et al. 2021,
    arXiv 2010.11929), both transformers' classes."""

    size_pixels: int = 64
    """Height and width of the square input."""

    width: int = 96
    """ViT: token width. ResNet: channels of the last stage (512 in the paper)."""

    num_layers: int = 3
    """ViT: transformer blocks. A ResNet-18 has its eight blocks whatever is given."""

    num_heads: int = 4
    """ViT: attention heads; divides the width."""

    patch_pixels: int = 8
    """ViT: side of a patch; divides the input size."""

    def __post_init__(self) -> None:
        if self.encoder == "vit" and self.size_pixels % self.patch_pixels:
            raise ValueError(
                f"image.size_pixels {self.size_pixels} is not a multiple of "
                f"image.patch_pixels {self.patch_pixels}"
            )
        if self.encoder == "vit" and self.width % self.num_heads:
            raise ValueError(
                f"image.width {self.width} is not a multiple of image.num_heads {self.num_heads}"
            )
        if self.encoder == "resnet18" and self.width % 8:
            raise ValueError(f"image.width of a resnet18 is a multiple of 8, got {self.width}")


class VitImage(nn.Module):
    """ViT with the mean of its patch states as embedding; no dropout."""

    def __init__(self, config: ImageConfig) -> None:
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

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Encoded:
        """Mean over patches, [CLS] left out."""
        patches = self.model(pixel_values=image).last_hidden_state[:, 1:]
        return Encoded.of_whole(patches.mean(1), patches)


class ResNetImage(nn.Module):
    """ResNet-18 with the globally pooled last stage as embedding."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        self.embed_dim = self.token_dim = config.width
        stage = config.width // 8
        self.model = ResNetModel(
            ResNetConfig(
                embedding_size=stage,
                hidden_sizes=[stage, 2 * stage, 4 * stage, 8 * stage],
                depths=[2, 2, 2, 2],
                layer_type="basic",
            )
        )

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Encoded:
        """Pooled features of the last stage."""
        output = self.model(pixel_values=image)
        places = output.last_hidden_state.flatten(2).transpose(1, 2)
        return Encoded.of_whole(output.pooler_output.flatten(1), places)


def build_image_encoder(config: ImageConfig) -> VitImage | ResNetImage:
    """The encoder that ``config.encoder`` names."""
    return VitImage(config) if config.encoder == "vit" else ResNetImage(config)
