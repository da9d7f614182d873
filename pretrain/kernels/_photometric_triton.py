"""The Triton side of `kernels.photometric`; imported on first use, so that a CPU needs no triton.

Pictures are kept in 0..255, where bytes are exact, and brought to [0, 1] as they are stored.
"""

# A kernel is no Python: its arguments are pointers and numbers, and its names are Triton's.
# ruff: noqa: ANN001, N803
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def _clamped(value) -> tl.tensor:
    return tl.minimum(tl.maximum(value, 0.0), 255.0)


@triton.jit
def _gray(red, green, blue) -> tl.tensor:
    return 0.2989 * red + 0.587 * green + 0.114 * blue


@triton.jit
def _loaded(place, plane, brightness, inside) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The channels of some pixels, made brighter; ``inside`` may be None."""
    # Converted right after the load: bytes would overflow.
    red = tl.load(place, mask=inside).to(tl.float32)
    green = tl.load(place + plane, mask=inside).to(tl.float32)
    blue = tl.load(place + 2 * plane, mask=inside).to(tl.float32)
    return _clamped(red * brightness), _clamped(green * brightness), _clamped(blue * brightness)


@triton.jit
def _blended(red, green, blue, other, share) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """``share`` of the channels and the rest of ``other``."""
    rest = (1.0 - share) * other
    return (
        _clamped(share * red + rest),
        _clamped(share * green + rest),
        _clamped(share * blue + rest),
    )


@triton.jit
def _unit(value) -> tl.tensor:
    return tl.minimum(tl.maximum(value, 0.0), 1.0)


@triton.jit
def _hue_turned(red, green, blue, turns) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Along the hexagon of hues, whose corners are at 0 (red), 1 (yellow) ... 5 (magenta)."""
    most = tl.maximum(tl.maximum(red, green), blue)
    chroma = most - tl.minimum(tl.minimum(red, green), blue)
    divisor = tl.where(chroma > 0.0, chroma, 1.0)
    others = tl.where(most == green, 2.0 + (blue - red) / divisor, 4.0 + (red - green) / divisor)
    corner = tl.where(most == red, (green - blue) / divisor, others) + 6.0 * turns
    corner = corner - 6.0 * tl.floor(corner / 6.0)
    red = most - chroma * _unit(2.0 - tl.abs(corner - 3.0))
    green = most - chroma * _unit(tl.abs(corner - 2.0) - 1.0)
    blue = most - chroma * _unit(tl.abs(corner - 4.0) - 1.0)
    return red, green, blue


@triton.jit
def _changed(place, plane, change, mean) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Pixels after every change before the blur."""
    red, green, blue = _loaded(place, plane, tl.load(change + 1), None)
    red, green, blue = _blended(red, green, blue, mean, tl.load(change + 2))
    red, green, blue = _blended(red, green, blue, _gray(red, green, blue), tl.load(change + 3))
    turns = tl.load(change + 4)
    if turns != 0.0:
        red, green, blue = _hue_turned(red, green, blue, turns)
    if tl.load(change + 5) > 0.0:
        red = _gray(red, green, blue)
        green = red
        blue = red
    return red, green, blue


@triton.jit
def _reflected(index, size) -> tl.tensor:
    """Places within a picture for such as lie over its border; those still farther off are at 0."""
    return tl.maximum(size - 1 - tl.abs(size - 1 - tl.abs(index)), 0)


@triton.jit
def _taps(away, sigma, HALO: tl.constexpr) -> tl.tensor:
    """A Gaussian that is cut off behind ``HALO``; not yet of sum 1."""
    ratio = away.to(tl.float32) / sigma
    return tl.where(tl.abs(away) <= HALO, tl.exp(-0.5 * ratio * ratio), 0.0)


@triton.jit
def _factor(value, PRECISION: tl.constexpr) -> tl.tensor:
    """What is multiplied: the tensor cores cut TF32 off, which would make all pictures darker."""
    if PRECISION == "tf32":
        bits = (value.to(tl.int32, bitcast=True) + 4096) & -8192  # rounded to 11 bits
        value = bits.to(tl.float32, bitcast=True)
    return value


@triton.jit
def _product(left, right, PRECISION: tl.constexpr) -> tl.tensor:
    right = _factor(right, PRECISION)
    return tl.dot(_factor(left, PRECISION), right, input_precision=PRECISION)


@triton.jit
def _stored(place, value, inside, solarize, threshold) -> None:
    if solarize > 0.0:
        value = tl.where(value >= threshold, 255.0 - value, value)
    value = value * (1.0 / 255.0)
    tl.store(place, value.to(place.dtype.element_ty), mask=inside)


@triton.jit
def mean_kernel(
    images,
    changes,
    partials,
    batch,
    view_stride,
    batch_stride,
    plane,
    num_parts,
    CHANGES: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Sums of the gray of brightened pictures, as contrast needs it; a program has one block.

    Pictures whose contrast does not change are passed over.
    """
    picture = tl.program_id(0) // num_parts
    part = tl.program_id(0) % num_parts
    change = changes + picture * CHANGES
    if tl.load(change + 2) != 1.0:
        image = images + (picture // batch).to(tl.int64) * view_stride
        image += (picture % batch).to(tl.int64) * batch_stride
        index = part * BLOCK + tl.arange(0, BLOCK)
        inside = index < plane
        red, green, blue = _loaded(image + index, plane, tl.load(change + 1), inside)
        gray = tl.where(inside, _gray(red, green, blue), 0.0)
        tl.store(partials + tl.program_id(0), tl.sum(gray, 0))


@triton.jit
def photometric_kernel(
    images,
    changes,
    partials,
    changed,
    batch,
    view_stride,
    batch_stride,
    height,
    width,
    num_parts,
    threshold,
    CHANGES: tl.constexpr,
    PARTS: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
    HALO: tl.constexpr,
    WINDOW: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """All changes of a tile of a picture.

    A blurred tile is made of a window of ``WINDOW`` columns that is read in chunks of rows: down
    the rows, then across the columns it is multiplied with matrices whose rows are the blur's taps,
    each a pixel further. Flip and reflection are in the addresses.
    """
    columns_of_tiles = tl.cdiv(width, TILE)
    num_tiles = tl.cdiv(height, TILE) * columns_of_tiles
    picture = tl.program_id(0) // num_tiles
    tile = tl.program_id(0) % num_tiles
    change = changes + picture * CHANGES
    plane = height * width
    image = images + (picture // batch).to(tl.int64) * view_stride
    image += (picture % batch).to(tl.int64) * batch_stride
    mean = 0.0
    if tl.load(change + 2) != 1.0:
        part = tl.arange(0, PARTS)
        sums = tl.load(partials + picture * num_parts + part, mask=part < num_parts, other=0.0)
        mean = tl.sum(sums, 0) / plane
    # A flipped picture is read from its last column on.
    first = 0
    step = 1
    if tl.load(change) > 0.0:
        first = width - 1
        step = -1
    row = (tile // columns_of_tiles) * TILE + tl.arange(0, TILE)
    column = (tile % columns_of_tiles) * TILE + tl.arange(0, TILE)
    sigma = tl.load(change + 6)
    if sigma > 0.0:
        total = tl.sum(_taps(tl.arange(0, WINDOW) - HALO, sigma, HALO), 0)
        seen = (tile % columns_of_tiles) * TILE - HALO + tl.arange(0, WINDOW)
        places = image + first + step * _reflected(seen, width)
        red = tl.zeros([TILE, WINDOW], dtype=tl.float32)
        green = tl.zeros([TILE, WINDOW], dtype=tl.float32)
        blue = tl.zeros([TILE, WINDOW], dtype=tl.float32)
        for start in range(0, TILE + 2 * HALO, CHUNK):
            above = (tile // columns_of_tiles) * TILE - HALO + start + tl.arange(0, CHUNK)
            here = places[None, :] + _reflected(above, height)[:, None] * width
            one, two, three = _changed(here, plane, change, mean)
            down = _taps(above[None, :] - row[:, None], sigma, HALO) / total
            red += _product(down, one, PRECISION)
            green += _product(down, two, PRECISION)
            blue += _product(down, three, PRECISION)
        across = _taps(seen[:, None] - column[None, :], sigma, HALO) / total
        red = _product(red, across, PRECISION)
        green = _product(green, across, PRECISION)
        blue = _product(blue, across, PRECISION)
    else:
        here = image + (first + step * _reflected(column, width))[None, :]
        here += (_reflected(row, height) * width)[:, None]
        red, green, blue = _changed(here, plane, change, mean)
    inside = (row < height)[:, None] & (column < width)[None, :]
    place = changed + picture.to(tl.int64) * 3 * plane + row[:, None] * width + column[None, :]
    solarize = tl.load(change + 7)
    _stored(place, red, inside, solarize, threshold)
    _stored(place + plane, green, inside, solarize, threshold)
    _stored(place + 2 * plane, blue, inside, solarize, threshold)
