"""Pictures, spectrograms and sounds as data URIs, so that a page needs no other file."""

import base64
import io

import numpy as np
import soundfile
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image
from torch import Tensor


def draw_picture(image: Float[Tensor, "3 height width"]) -> str:
    """A PNG of a picture in [0, 1]."""
    return _png(image.permute(1, 2, 0).numpy())


def draw_spectrogram(log_mel: Float[Tensor, "mel frame"]) -> str:
    """Low bands at the bottom; the colours span the clip's own range."""
    values = log_mel.flip(0).numpy()
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-6)
    return _png(np.asarray(colormaps["magma"](scaled))[..., :3])


def encode_sound(waveform: Float[Tensor, " time"], sample_rate_hz: int) -> str:
    """A FLAC of 16 bits; what leaves [-1, 1] is clipped."""
    stream = io.BytesIO()
    clipped = waveform.clamp(-1.0, 1.0).numpy()
    soundfile.write(stream, clipped, sample_rate_hz, format="FLAC", subtype="PCM_16")
    return _data_uri(stream.getvalue(), "audio/flac")


def _png(pixels: Float[np.ndarray, "height width 3"]) -> str:
    stream = io.BytesIO()
    Image.fromarray((pixels * 255.0).round().astype(np.uint8)).save(stream, "PNG")
    return _data_uri(stream.getvalue(), "image/png")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
