"""Image views: their settings, and the random resized crop; `photometric` has the rest."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from pretrain.views.checks import check_pairs, check_probability, check_range


@dataclass(frozen=True, kw_only=True)
class ImageViewConfig:
    """BYOL's image views (Grill et al. 2020, appendix B), in a fixed order.

    For sentiment, flips and strong colour changes cost: overlaid text and colour carry
    affect.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Share of the picture's area that a crop covers."""

    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Width over height of a crop, drawn evenly on a logarithmic scale."""

    flip_probability: float = 0.5
    """Horizontal flip."""

    jitter_probability: float = 0.8
    """Brightness, contrast, saturation and hue, all or none."""

    brightness: float = 0.4
    """Largest relative change of brightness."""

    contrast: float = 0.4
    """Largest relative change of contrast."""

    saturation: float = 0.2
    """Largest relative change of saturation."""

    hue: float = 0.1
    """Largest shift of hue, in turns; at most 0.5."""

    grayscale_probability: float = 0.2
    """Loss of all colour."""

    blur_probability: tuple[float, float] = (0.0, 0.0)
    """Gaussian blur in the first and the second view (1.0 and 0.1 in the paper, at 224 pixels)."""

    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Standard deviation of the blur in pixels, drawn evenly."""

    blur_kernel_share: float = 0.1
    """Side of the blur's kernel as a share of the picture's; made odd, and at least 3 pixels."""

    solarize_probability: tuple[float, float] = (0.0, 0.2)
    """Inversion of bright pixels in the first and the second view."""

    solarize_threshold: int = 128
    """Least brightness, in 0..255, that is inverted."""

    def __post_init__(self) -> None:
        check_range("image.crop_scale", self.crop_scale, 0.01, 1.0)
        check_range("image.crop_aspect", self.crop_aspect, 0.1, 10.0)
        check_range("image.blur_sigma", self.blur_sigma, 0.01, 100.0)
        check_range("image.blur_kernel_share", (0.0, self.blur_kernel_share), 0.0, 0.5)
        check_range("image.solarize_threshold", (0.0, float(self.solarize_threshold)), 0.0, 255.0)
        for name in ("flip_probability", "jitter_probability", "grayscale_probability"):
            check_probability(f"image.{name}", getattr(self, name))
        check_pairs(self, "image", ("blur_probability", "solarize_probability"))
        for name, limit in (
            ("brightness", 1.0),
            ("contrast", 1.0),
            ("saturation", 1.0),
            ("hue", 0.5),
        ):
            check_range(f"image.{name}", (0.0, getattr(self, name)), 0.0, limit)


def random_resized_crop(
    image: UInt8[Tensor, "3 height width"],
    size_pixels: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    generator: np.random.Generator,
) -> UInt8[Tensor, "3 size_pixels size_pixels"]:
    """Inception's crop (Szegedy et al. 2015): random area and aspect ratio, then resized.

    torchvision's own draws from torch's global generator; the ten tries and the fall-back to
    the whole picture are as there.

    Args:
        image: The whole picture.
        size_pixels: Side of the square that comes out.
        scale: Least and greatest share of the area.
        aspect: Least and greatest width over height.
        generator: Drawn from until a crop fits.
    """
    # Imported late, as in `pretrain.models.preprocess`.
    from torchvision.transforms.v2 import functional as TF

    height, width = image.shape[-2:]
    for _ in range(10):
        area = height * width * generator.uniform(*scale)
        ratio = math.exp(generator.uniform(math.log(aspect[0]), math.log(aspect[1])))
        crop_width = round(math.sqrt(area * ratio))
        crop_height = round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(generator.integers(height - crop_height + 1))
            left = int(generator.integers(width - crop_width + 1))
            return TF.resized_crop(
                image, top, left, crop_height, crop_width, [size_pixels, size_pixels]
            )
    return TF.resize(image, [size_pixels, size_pixels], antialias=True)
