"""Photometric changes by the fused kernel, by torchvision v2, and by kornia if it is installed."""

from importlib.util import find_spec
from typing import Any

import torch
from kernels_operation import FUSED, Operation, Run, Sizes
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from pretrain.kernels import CHANGES, fused_photometric
from pretrain.views.image import ImageViewConfig
from pretrain.views.photometric import IMAGE_DRAWS, blur_side, draw_changes

KORNIA = "kornia"
CONFIG = ImageViewConfig(blur_probability=(1.0, 0.1))
"""The paper's: the first view is always blurred."""


def pictures_operation(dtype: torch.dtype, sizes: Sizes, device: str) -> Operation:
    """Two views of a batch; all candidates have the same bytes, kornia draws its own changes."""
    torch.manual_seed(0)
    shape = (2, sizes.batch, 3, sizes.pixels, sizes.pixels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    draws = torch.rand(2, sizes.batch, IMAGE_DRAWS, dtype=torch.float64)
    rows, side = draw_changes(draws, CONFIG).rows.to(device), blur_side(sizes.pixels, CONFIG)
    known, flat = rows.flatten(0, 1).tolist(), images.flatten(0, 1)
    limit = CONFIG.solarize_threshold

    def torchvision() -> Tensor:
        pairs = zip(flat, known, strict=True)
        changed = [torchvision_picture(image, row, side, dtype) for image, row in pairs]
        return torch.stack(changed)

    candidates: dict[str, Run] = {"eager": torchvision}
    if find_spec(KORNIA) is None:
        print(f"{KORNIA} is not installed: pictures are not compared with it")
    else:
        candidates[KORNIA] = kornia_views(images, side, dtype)
    candidates[FUSED] = lambda: fused_photometric(images, rows, side, limit, dtype)
    return Operation(
        name=f"pictures of {sizes.pixels} pixels, {str(dtype).removeprefix('torch.')}",
        candidates=candidates,
        needed_bytes=images.numel() * (1 + dtype.itemsize),
        tensors=len(flat),
        entries=images.numel(),
    )


def torchvision_picture(image: Tensor, row: list[float], side: int, dtype: torch.dtype) -> Tensor:
    """One picture in bytes, as torchvision's transforms do it; then brought to [0, 1]."""
    change = dict(zip(CHANGES, row, strict=True))
    if change["flip"]:
        image = TF.horizontal_flip(image)
    if change["brightness"] != 1.0:
        image = TF.adjust_brightness(image, change["brightness"])
        image = TF.adjust_contrast(image, change["contrast"])
        image = TF.adjust_saturation(image, change["saturation"])
        image = TF.adjust_hue(image, change["hue"])
    if change["grayscale"]:
        image = TF.rgb_to_grayscale(image, num_output_channels=3)
    if sigma := change["blur_sigma"]:
        image = TF.gaussian_blur(image, [side, side], [sigma, sigma])
    if change["solarize"]:
        image = TF.solarize(image, CONFIG.solarize_threshold)
    return TF.to_dtype(image, dtype, scale=True)


def kornia_views(images: Tensor, side: int, dtype: torch.dtype) -> Run:
    """Each view through augmentations of kornia with the same chances and strengths."""
    # kornia is no dependency of ours; checkers and machines without it must not miss it.
    import kornia.augmentation as augmentation  # pyright: ignore[reportMissingImports]

    strength = (CONFIG.brightness, CONFIG.contrast, CONFIG.saturation, CONFIG.hue)
    threshold = CONFIG.solarize_threshold / 255.0
    chains: list[Any] = []
    for view in range(2):
        changes = (
            augmentation.RandomHorizontalFlip(p=CONFIG.flip_probability),
            augmentation.ColorJiggle(*strength, p=CONFIG.jitter_probability),
            augmentation.RandomGrayscale(p=CONFIG.grayscale_probability),
            augmentation.RandomGaussianBlur(
                (side, side), CONFIG.blur_sigma, p=CONFIG.blur_probability[view]
            ),
            augmentation.RandomSolarize(
                thresholds=(threshold, threshold),
                additions=0.0,
                p=CONFIG.solarize_probability[view],
            ),
        )
        chains.append(torch.nn.Sequential(*changes))

    def run() -> list[Tensor]:
        pairs = zip(chains, images, strict=True)
        return [chain(pictures / 255.0).to(dtype) for chain, pictures in pairs]

    return run
