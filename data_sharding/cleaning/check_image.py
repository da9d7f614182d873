"""Whether a picture may enter a shard: by its header first, then by decoding it once."""

import warnings
from io import BytesIO

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from data_sharding.cleaning.config import PILLOW_PIXEL_LIMIT, CleanConfig
from data_sharding.cleaning.sniff import image_suffix
from data_sharding.decode import PILLOW_ERRORS, decode_image
from data_sharding.schema import DecodeError, Rejection

FORMATS = ("JPEG", "PNG", "WEBP")


def image_kind(encoded: bytes, config: CleanConfig) -> str:
    """The suffix of a picture's kind, from its first bytes.

    Raises:
        Rejection: ``not-an-image`` or ``image-format``.
    """
    suffix = image_suffix(encoded)
    if suffix is None:
        raise Rejection("not-an-image", "no JPEG, PNG or WebP picture")
    if suffix not in config.image_formats:
        allowed = ", ".join(config.image_formats)
        raise Rejection("image-format", f"it is {suffix}; clean.image_formats has {allowed}")
    return suffix


def check_image(
    encoded: bytes, suffix: str, config: CleanConfig
) -> UInt8[Tensor, "3 height width"]:
    """Checks a picture and returns its pixels.

    Args:
        encoded: The file.
        suffix: Its kind, by `image_kind`.
        config: Limits.

    Raises:
        Rejection: ``not-an-image``, ``too-many-pixels``, ``image-too-small``, ``animated-image`` or
            ``broken-image``.
    """
    width, height = _check_header(encoded)
    if width * height > config.max_image_pixels:
        raise Rejection(
            "too-many-pixels", f"{width} x {height}, the limit is {config.max_image_pixels} pixels"
        )
    if min(width, height) < config.min_image_side:
        limit = f"the least side is {config.min_image_side}"
        raise Rejection("image-too-small", f"{width} x {height}, {limit}")
    try:
        return decode_image(encoded, suffix)
    except DecodeError as error:
        raise Rejection("broken-image", str(error)) from error


def _check_header(encoded: bytes) -> tuple[int, int]:
    """Width and height of a picture that is a single one.

    A JPEG of several pictures (MPO, as phones make) counts as its first one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(encoded), formats=FORMATS) as picture:
                frames = getattr(picture, "n_frames", 1) if picture.format != "MPO" else 1
                size = picture.size
    except Image.DecompressionBombError as error:
        raise Rejection("too-many-pixels", f"more than {PILLOW_PIXEL_LIMIT} pixels") from error
    except PILLOW_ERRORS as error:
        raise Rejection("not-an-image", "no JPEG, PNG or WebP picture") from error
    if frames > 1:
        raise Rejection("animated-image", f"{frames} pictures in one file")
    return size
