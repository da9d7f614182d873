"""What people have at hand -> what the backbone's preprocessing takes.

Texts are strings, pictures are PIL images or files, recordings are waveforms or files.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor

from data_sharding.cleaning.sniff import image_suffix
from data_sharding.decode import (
    PILLOW_ERRORS,
    Decoder,
    decode_audio,
    decode_image,
    picture_pixels,
    resampled,
)
from data_sharding.schema import DecodeError

PictureInput = Image.Image | Path | str | bytes
"""An opened picture, the path of a JPEG, PNG or WebP file, or such a file's bytes."""
Waveform = np.ndarray | Tensor
SoundInput = tuple[Waveform, int] | Path | str | bytes
"""A waveform of [time] or [channel, time] and its sample rate in Hz, the path of a FLAC, WAV, Ogg
or MP3 file, or such a file's bytes."""


class InputError(ValueError):
    """One input that cannot be used; the message names it."""


def read_text(text: str, decoder: Decoder) -> Int64[Tensor, " token"]:
    """Token ids, not cut.

    Raises:
        InputError: It is no string.
    """
    if not isinstance(text, str):
        raise InputError(f"a text must be a string, got {type(text).__name__}")
    return decoder.tokenize(text)


def read_picture(picture: PictureInput) -> UInt8[Tensor, "3 height width"]:
    """RGB, turned as EXIF says, transparency laid over white.

    Raises:
        InputError: No picture; a file is named.
    """
    try:
        if isinstance(picture, Image.Image):
            return picture_pixels(picture)
        encoded = _bytes_of(picture)
        suffix = image_suffix(encoded)
        if suffix is None:
            raise DecodeError("neither JPEG nor PNG nor WebP")
        return decode_image(encoded, suffix)
    except (DecodeError, *PILLOW_ERRORS) as error:
        raise InputError(f"{_name_of(picture, 'a picture')}: {error}") from error


def read_sound(sound: SoundInput, decoder: Decoder) -> Float32[Tensor, " time"]:
    """Mono, at the decoder's sample rate.

    Raises:
        InputError: No recording; a file is named.
    """
    try:
        if not isinstance(sound, tuple):
            return decode_audio(_bytes_of(sound), decoder.config)
        samples, rate_hz = sound
        most = max(1, round(decoder.config.max_seconds * rate_hz))
        return resampled(_mono(samples)[:most], rate_hz, decoder.config.sample_rate_hz)
    except (DecodeError, OSError) as error:
        raise InputError(f"{_name_of(sound, 'a waveform')}: {error}") from error


def _mono(samples: Waveform) -> Float32[Tensor, " time"]:
    values = torch.as_tensor(samples)
    if not values.is_floating_point():
        raise DecodeError(f"samples must be floats in [-1, 1], got {values.dtype}")
    if values.ndim == 2 and values.shape[0] <= values.shape[1]:
        values = values.mean(0)
    if values.ndim != 1:
        raise DecodeError(
            f"a waveform has [time] or [channel, time] samples, got {tuple(samples.shape)}"
        )
    return values.float()


def _bytes_of(source: Path | str | bytes) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _name_of(source: object, otherwise: str) -> str:
    return str(source) if isinstance(source, Path | str) else otherwise
