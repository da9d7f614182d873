"""BYOL's photometric changes of a whole batch of pictures, in two launches.

torchvision takes some hundred operators a picture, and kornia goes over 88 MB of memory for a
picture of 224 pixels whose bytes, with the result in bfloat16, are 0.45 MB.
"""

from typing import Any

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

CHANGES = (
    "flip",
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "grayscale",
    "blur_sigma",
    "solarize",
)
"""What is done to a picture, in this order; the numbers of a row."""

MEAN_BLOCK = 4096
"""Pixels that a program adds up."""
CHUNK = 16
"""Rows of a blurred tile's window that are read at once."""
LEAST_PIXELS, MOST_PIXELS = 8, 512
MOST_SIDE = 65
"""Greatest side of the blur's kernel."""
PRECISIONS = {torch.float32: "ieee", torch.bfloat16: "tf32"}
"""How the blur multiplies, by the dtype of the result. TF32 rounds factors to 11 bits: the four of
a pixel by 2**-9 of it at most, half of bfloat16's own rounding. In float32 no tensor core is
exact enough; three products of TF32 would be, but take more registers than there are."""


def fused_photometric(
    images: UInt8[Tensor, "view batch 3 height width"],
    rows: Float32[Tensor, "view batch change"],
    side: int,
    solarize_threshold: int,
    dtype: torch.dtype,
) -> Float[Tensor, "view batch 3 height width"]:
    """`pretrain.views.photometric.photometric` by kernels, within rounding.

    Args:
        images: Of any strides in the first two axes; the others are contiguous.
        rows: `CHANGES` of each picture.
        side: Of the blur's kernel in pixels, odd.
        solarize_threshold: Least brightness, in 0..255, that is inverted.
        dtype: Of the result, which is in [0, 1]: float32 or bfloat16.

    Raises:
        ValueError: the kernel has no way for such pictures, for this side or this dtype.
    """
    _check(images, rows, side, dtype)
    from pretrain.kernels import _photometric_triton

    views, batch, _, height, width = images.shape
    changed = torch.empty(images.shape, dtype=dtype, device=images.device)
    num_pictures, num_parts = views * batch, -(-height * width // MEAN_BLOCK)
    if num_pictures == 0:
        return changed
    rows = rows.contiguous()
    partials = rows.new_empty(num_pictures * num_parts)
    places = (batch, images.stride(0), images.stride(1))
    cut = cut_of(side)
    num_tiles = -(-height // cut["TILE"]) * -(-width // cut["TILE"])
    # Their arguments are pointers, not tensors, to a checker.
    mean_kernel: Any = _photometric_triton.mean_kernel
    kernel: Any = _photometric_triton.photometric_kernel
    mean_kernel[(num_pictures * num_parts,)](
        images,
        rows,
        partials,
        *places,
        height * width,
        num_parts,
        CHANGES=len(CHANGES),
        BLOCK=MEAN_BLOCK,
    )
    kernel[(num_pictures * num_tiles,)](
        images,
        rows,
        partials,
        changed,
        *places,
        height,
        width,
        num_parts,
        float(solarize_threshold),
        CHANGES=len(CHANGES),
        PARTS=_power_of_two(num_parts),
        PRECISION=PRECISIONS[dtype],
        **cut,
    )
    return changed


def cut_of(side: int) -> dict[str, int]:
    """How pictures are cut for a side of the blur's kernel: the kernel's constants and its warps.

    Chosen by registers: nothing is spilled.
    """
    halo = side // 2
    tile = 32 if 32 + 2 * halo <= 64 else 16
    columns = _power_of_two(tile + 2 * halo)
    cut = {"TILE": tile, "CHUNK": CHUNK, "HALO": halo, "WINDOW": columns}
    return cut | {"num_warps": 4 if columns <= 64 else 8, "num_stages": 1}


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def check_pictures(height: int, width: int, side: int) -> None:
    """Whether the kernel has a way for pictures of this size.

    Args:
        height: In pixels.
        width: In pixels.
        side: Of the blur's kernel in pixels.

    Raises:
        ValueError: it has none; says for which.
    """
    if not all(LEAST_PIXELS <= size <= MOST_PIXELS for size in (height, width)):
        raise ValueError(
            f"photometric: the kernel is for {LEAST_PIXELS} to {MOST_PIXELS} pixels a side, not "
            f"for pictures of {height} x {width}"
        )
    if side % 2 == 0 or not 3 <= side <= MOST_SIDE or side // 2 >= min(height, width):
        raise ValueError(
            f"photometric: the kernel blurs by 3, 5, ... {MOST_SIDE} pixels, less than twice the "
            f"picture; got {side} for {height} x {width}"
        )


def _check(images: Tensor, rows: Tensor, side: int, dtype: torch.dtype) -> None:
    height, width = images.shape[-2:]
    check_pictures(height, width, side)
    if dtype not in PRECISIONS:
        raise ValueError(f"photometric: the kernel writes float32 or bfloat16, not {dtype}")
    if images.stride()[2:] != (height * width, width, 1):
        raise ValueError("photometric: the channels of a picture are not contiguous")
    if rows.shape != (*images.shape[:2], len(CHANGES)) or rows.device != images.device:
        raise ValueError(
            f"photometric: changes of shape {tuple(rows.shape)} on {rows.device} for pictures of "
            f"shape {tuple(images.shape)} on {images.device}"
        )
