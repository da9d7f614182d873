"""Cases of the photometric kernel: pictures and changes, against torchvision in float64."""

from collections.abc import Callable, Iterator

import torch
from kernels_compared import Compared, compare, unchanged
from torch import Tensor

from pretrain.kernels import fused_photometric
from pretrain.views.photometric import plain_photometric

Change = Callable[[Tensor, list[float], int, float], Tensor]

ROWS = (
    # flip, brightness, contrast, saturation, hue, grayscale, blur_sigma, solarize
    (0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    (1.0, 1.3, 0.7, 1.2, 0.1, 0.0, 1.7, 1.0),
    (1.0, 0.7, 1.4, 1.1, -0.45, 0.0, 0.0, 0.0),
    (0.0, 1.4, 1.3, 0.8, 0.3, 1.0, 0.6, 0.0),
    (0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.1, 0.0),
    (1.0, 0.6, 0.6, 0.8, 0.02, 1.0, 0.0, 1.0),
)
"""Each change with and without each neighbour; two views of three pictures."""
THRESHOLD = 90
"""Of solarising: a value on the other side of it comes out 75 levels away."""
UNDECIDED = {torch.float32: 1e-5, torch.bfloat16: 2.0**-7}
"""How near to the threshold rounding decides; results there are not compared, unless the picture
came to it unchanged."""


def pictures(copies: int, height: int, width: int, device: str) -> Tensor:
    """Bytes [2, 3 copies, 3, height, width]: noise, and stripes that are gray, black or pure.

    The views are the second axis in memory, as in a batch.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (3 * copies, 2, 3, height, width)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    images[:, :, :, 3] = images[:, :, :1, 3]
    images[:, :, :, 5] = torch.where(images[:, :, :, 5] < 128, 0, 255).to(torch.uint8)
    images[:, :, :, 7, ::2] = THRESHOLD
    return images.to(device).transpose(0, 1)


def exact_photometric(image: Tensor, row: list[float], side: int, limit: float) -> Tensor:
    """`plain_photometric`, but for the hue, which torchvision turns in float32 in any case."""
    flip, brightness, contrast, saturation, hue, *rest = row
    image = plain_photometric(
        image, [flip, brightness, contrast, saturation, 0.0, 0.0, 0.0, 0.0], side, limit
    )
    if hue:
        image = turned(image, hue)
    return plain_photometric(image, [0.0, 1.0, 1.0, 1.0, 0.0, *rest], side, limit)


def turned(image: Tensor, turns: float) -> Tensor:
    """Another hue in the image's own dtype: the hexagon as one piecewise linear function."""
    red, green, blue = image
    most = image.amax(0)
    chroma = most - image.amin(0)
    divisor = chroma.where(chroma > 0.0, 1.0)
    sixths = torch.where(most == green, (blue - red) / divisor + 2.0, (red - green) / divisor + 4.0)
    sixths = torch.where(most == red, (green - blue) / divisor, sixths) + 6.0 * turns
    places = [torch.remainder(sixths + corner, 6.0) for corner in (5.0, 3.0, 1.0)]
    darker = [torch.minimum(place, 4.0 - place).clamp(0.0, 1.0) for place in places]
    return most - chroma * torch.stack(darker)


def picture_case(
    size: tuple[int, int], side: int, dtype: torch.dtype, device: str, copies: int = 1
) -> Iterator[Compared]:
    """`ROWS` on pictures of height and width, blurred by a kernel of ``side`` pixels."""
    images = pictures(copies, *size, device)
    rows = torch.tensor(ROWS, device=device).view(2, 3, -1).repeat(1, copies, 1)

    def each(change: Change, values: Tensor, solarized: bool = True) -> Tensor:
        pairs = zip(values.flatten(0, 1) / 255.0, rows.flatten(0, 1).tolist(), strict=True)
        limit = THRESHOLD / 255.0
        changed = [change(image, [*r[:-1], r[-1] * solarized], side, limit) for image, r in pairs]
        return torch.stack(changed).view(values.shape)

    before = each(exact_photometric, images.double(), solarized=False) - THRESHOLD / 255.0
    exact = each(exact_photometric, images.double())
    unsure = rows[..., 7] * (rows[..., 1:7] != rows[0, 0, 1:7]).any(-1) > 0.0
    undecided = unsure[..., None, None, None] & (before.abs() < UNDECIDED[dtype])

    def decided(found: Tensor) -> dict[str, Tensor]:
        return {"pictures": torch.where(undecided, exact.to(dtype), found)}

    def ours() -> dict[str, Tensor]:
        return decided(fused_photometric(images, rows, side, THRESHOLD, dtype))

    name = f"pictures of {size[0]} x {size[1]} in {str(dtype)[6:]}, blurred by {side}"
    first, eager = ours(), decided(each(plain_photometric, images.float()).to(dtype))
    yield from compare(name, first, eager, {"pictures": exact})
    yield unchanged(name, first, ours())


def picture_cases(device: str, large: bool) -> Iterator[Compared]:
    """Pictures of several tiles and of less than one, wide and narrow windows."""
    for dtype in (torch.float32, torch.bfloat16):
        yield from picture_case((34, 24), 9, dtype, device)
        yield from picture_case((20, 24), 35, dtype, device)
        if large:
            yield from picture_case((224, 224), 23, dtype, device, copies=8)
            yield from picture_case((512, 300), 51, dtype, device)
