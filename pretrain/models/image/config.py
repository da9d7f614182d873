"""Choice and sizes of the image encoder."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pretrain.models.tower import TowerConfig

WIDTH_STEPS = {"resnet18": 8, "resnet50": 32, "vgg16": 8, "small_cnn": 32}
"""What the width must be a multiple of, so that every layer has whole channels."""
SMALLEST_PIXELS = {"vgg16": 32, "small_cnn": 16}
"""What is left of a smaller picture after the poolings is nothing."""


@dataclass(frozen=True, kw_only=True)
class ImageConfig(TowerConfig):
    """The image encoder: its kind, its sizes, and where it starts."""

    modality: ClassVar[str] = "image"
    warm_encoders: ClassVar[tuple[str, ...]] = ("vit", "resnet18", "resnet50")

    encoder: Literal["vit", "resnet18", "resnet50", "vgg16", "small_cnn"] = "vit"
    """`vit` (Dosovitskiy et al. 2021), `resnet18`, `resnet50` (He et al. 2016), all transformers'
    classes; `vgg16` (Simonyan & Zisserman 2015) with batch norm; `small_cnn`: four convolutions
    with group norm. Batch norm makes an embedding in training depend on the rest of the batch."""

    size_pixels: int = 64
    """Height and width of the square input."""

    width: int = 96
    """Dimension of the embedding. vit: token width. Others: channels of the last layer (512 in
    a paper's resnet18 and vgg16, 2048 in its resnet50); the earlier ones shrink along."""

    num_layers: int = 3
    """vit: transformer blocks."""

    num_heads: int = 4
    """vit: attention heads; divides the width."""

    patch_pixels: int = 8
    """vit: side of a patch; divides the input size."""

    fixed_patch_projection: bool = False
    """vit: leave the projection of patches as it starts, which steadies training (MoCo v3, Chen
    et al. 2021, arXiv 2104.02057, section 4.2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size_pixels", "width", "num_layers", "num_heads", "patch_pixels"):
            self.require(getattr(self, name) >= 1, f"{name} must be positive")
        if self.encoder == "vit":
            self._check_vit()
        self.require(
            self.encoder == "vit" or not self.fixed_patch_projection,
            f"fixed_patch_projection is for vit; a {self.encoder} has no patches",
        )
        step = WIDTH_STEPS.get(self.encoder, 1)
        self.require(
            self.width % step == 0,
            f"width of a {self.encoder} is a multiple of {step}, got {self.width}",
        )
        smallest = SMALLEST_PIXELS.get(self.encoder, 1)
        self.require(
            self.size_pixels >= smallest,
            f"size_pixels of a {self.encoder} is at least {smallest}, got {self.size_pixels}",
        )

    def _check_vit(self) -> None:
        self.require(
            self.size_pixels % self.patch_pixels == 0,
            f"size_pixels {self.size_pixels} is not a multiple of image.patch_pixels "
            f"{self.patch_pixels}",
        )
        self.require(
            self.width % self.num_heads == 0,
            f"width {self.width} is not a multiple of image.num_heads {self.num_heads}",
        )
