"""BYOL's photometric changes for a batch of pictures, by parameters drawn before."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from pretrain.kernels import CHANGES, fused_photometric, runs_fused
from pretrain.views.image import ImageViewConfig

IMAGE_DRAWS = 10
"""Numbers that a picture's changes are made of: five chances, four factors, the blur's sigma."""


@dataclass(frozen=True, kw_only=True)
class ImageChanges:
    """What is done to each picture.

    Attributes:
        rows: `CHANGES` of each picture, in this order. ``flip``, ``grayscale`` and ``solarize`` are
            0 or 1; ``brightness``, ``contrast`` and ``saturation`` are factors, 1 without a change;
            ``hue`` is in turns, and ``blur_sigma`` in pixels, 0 without a change.
    """

    rows: Float32[Tensor, "view batch change"]


def draw_changes(
    draws: Float64[Tensor, "view batch draw"], config: ImageViewConfig
) -> ImageChanges:
    """The changes of each picture, on the device of ``draws``, without waiting for it.

    All numbers count whether used or not, so that one option does not shift the others.

    Args:
        draws: `IMAGE_DRAWS` of each picture, even in [0, 1), of one view or two.
        config: Chances and strengths.
    """
    chances = [
        [
            config.flip_probability,
            config.jitter_probability,
            config.grayscale_probability,
            config.blur_probability[view],
            config.solarize_probability[view],
        ]
        for view in range(len(draws))
    ]
    strengths = [config.brightness, config.contrast, config.saturation, config.hue]
    least, most = config.blur_sigma
    limits = torch.tensor(chances, dtype=draws.dtype)[:, None].to(draws.device, non_blocking=True)
    strength = torch.tensor(strengths, dtype=draws.dtype).to(draws.device, non_blocking=True)
    flip, jitter, grayscale, blur, solarize = (draws[..., :5] < limits).to(draws.dtype).split(1, -1)
    factors = strength * (2.0 * draws[..., 5:9] - 1.0) * jitter
    sigma = (least + (most - least) * draws[..., 9:]) * blur
    columns = [flip, 1.0 + factors[..., :3], factors[..., 3:], grayscale, sigma, solarize]
    return ImageChanges(rows=torch.cat(columns, -1).to(torch.float32))


def photometric(
    images: UInt8[Tensor, "view batch 3 height width"],
    changes: ImageChanges,
    config: ImageViewConfig,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "view batch 3 height width"]:
    """Flip, brightness, contrast, saturation, hue, grayscale, blur, solarise, in this order.

    Pictures come out in [0, 1]; nothing between two changes is rounded to eight bits. On a GPU all
    pictures take two launches, on a CPU each goes through torchvision's functions.

    Args:
        images: Their first two axes may have any strides: the kernel makes no copy.
        changes: Of each picture; moved to the pictures' device where they lie elsewhere.
        config: Side of the blur's kernel and the threshold of solarising.
        dtype: Of the result.

    Raises:
        ValueError: the kernel has no way for pictures of this size, or for this dtype.
    """
    rows = changes.rows.to(images.device, non_blocking=True)
    side = blur_side(images.shape[-1], config)
    if runs_fused(images):
        return fused_photometric(images, rows, side, config.solarize_threshold, dtype)
    threshold = config.solarize_threshold / 255.0
    changed = [
        plain_photometric(image.to(torch.float32) / 255.0, row, side, threshold)
        for image, row in zip(images.flatten(0, 1), rows.flatten(0, 1).tolist(), strict=True)
    ]
    return torch.stack(changed).to(dtype).unflatten(0, images.shape[:2])


def plain_photometric(
    image: Float[Tensor, "3 height width"], row: list[float], side: int, threshold: float
) -> Float[Tensor, "3 height width"]:
    """The changes of one picture in [0, 1] by torchvision's functions: what the kernel must equal.

    Args:
        image: In any float dtype; the result has it too, though torchvision turns hue in float32.
        row: Its `CHANGES`.
        side: Of the blur's kernel in pixels, odd.
        threshold: Least brightness that solarising inverts.
    """
    # Imported late, as in `pretrain.models.preprocess`.
    from torchvision.transforms.v2 import functional as TF

    change = dict(zip(CHANGES, row, strict=True))
    if change["flip"]:
        image = TF.horizontal_flip(image)
    if change["brightness"] != 1.0:
        image = TF.adjust_brightness(image, change["brightness"])
    if change["contrast"] != 1.0:
        image = TF.adjust_contrast(image, change["contrast"])
    if change["saturation"] != 1.0:
        image = TF.adjust_saturation(image, change["saturation"])
    if change["hue"]:
        image = TF.adjust_hue(image, change["hue"])
    if change["grayscale"]:
        image = TF.rgb_to_grayscale(image, num_output_channels=3)
    if change["blur_sigma"]:
        image = separable_blur(image, side, change["blur_sigma"])
    if change["solarize"]:
        image = TF.solarize(image, threshold)
    return image


def blur_side(width: int, config: ImageViewConfig) -> int:
    """Side of the blur's kernel in pixels: an odd share of the picture's width, at least 3.

    Also 3 where no view is blurred.
    """
    if not any(config.blur_probability):
        return 3
    return max(3, int(width * config.blur_kernel_share) | 1)


def separable_blur(
    image: Float[Tensor, "3 height width"], side: int, sigma: float
) -> Float[Tensor, "3 height width"]:
    """``TF.gaussian_blur`` of a square kernel, by its columns and then its rows.

    torchvision goes over all ``side**2`` taps at once.

    Args:
        image: Reflected at its borders.
        side: Of the kernel in pixels, odd.
        sigma: In pixels.
    """
    halo = side // 2
    away = torch.arange(-halo, halo + 1, dtype=image.dtype, device=image.device)
    taps = torch.softmax(-0.5 * (away / sigma).square(), 0)
    padded = F.pad(image, [halo] * 4, mode="reflect")[:, None]
    blurred = F.conv2d(padded, taps.view(1, 1, side, 1))
    return F.conv2d(blurred, taps.view(1, 1, 1, side))[:, 0]
