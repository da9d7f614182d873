"""Normalised pixels -> one embedding per picture, by the encoder that is named.

This package must not know: how image views are made, the other modalities.
"""

from pretrain.models.image.config import ImageConfig
from pretrain.models.image.resnet import ResNetImage
from pretrain.models.image.small_cnn import SmallCnn
from pretrain.models.image.vgg import Vgg16Image
from pretrain.models.image.vit import VitImage

IMAGE_ENCODERS = {
    "vit": VitImage,
    "resnet18": ResNetImage,
    "resnet50": ResNetImage,
    "vgg16": Vgg16Image,
    "small_cnn": SmallCnn,
}
"""By the name in `ImageConfig.encoder`."""


def build_image_encoder(config: ImageConfig) -> VitImage | ResNetImage | Vgg16Image | SmallCnn:
    """The encoder that ``config.encoder`` names, with fresh weights."""
    return IMAGE_ENCODERS[config.encoder](config)


__all__ = ["IMAGE_ENCODERS", "ImageConfig", "ResNetImage", "VitImage", "build_image_encoder"]
