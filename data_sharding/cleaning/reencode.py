"""Members as found -> members as written: smaller pictures and recordings, on request.

Re-encoding is the largest lever on loading speed: a picture of the size that training crops from
decodes in a fraction of the time, and mono 16 kHz needs no resampling. Equal input gives equal
bytes in every process of one installation (another libjpeg or libFLAC may write others).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import soundfile
import torch
from PIL import Image

from data_sharding.decode import DecodeConfig, decode_audio, decode_image
from data_sharding.schema import PARTS, Record, modality_of

FLAC_RATE_HZ = 16_000
WHOLE_SECONDS = 1e6
"""Longer than any recording that passes the checks: nothing is cut off."""


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """Whether pictures and recordings are re-encoded; without options they stay byte for byte."""

    image_short_side: int | None = None
    """Scale pictures down until their shorter side has at most so many pixels (288 suits crops of
    224), as JPEG in RGB, upright. A JPEG that is small enough stays as it is."""

    jpeg_quality: int = 90
    """Quality of re-encoded pictures, 1 to 100."""

    audio: Literal["keep", "flac16k"] = "keep"
    """flac16k turns every recording into mono FLAC of 16 kHz and 16 bits; keep leaves it."""

    def __post_init__(self) -> None:
        if self.image_short_side is not None and self.image_short_side < 1:
            raise ValueError(
                f"encode.image_short_side must be at least 1, got {self.image_short_side}"
            )
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"encode.jpeg_quality must be in [1, 100], got {self.jpeg_quality}")


def final_members(
    record: Record, members: Mapping[str, bytes], config: EncodeConfig
) -> dict[str, bytes]:
    """What a shard holds of a record: its members, re-encoded on request, and its JSON card.

    Args:
        record: The row, for its card.
        members: As `check_record` found them.
        config: What to re-encode.

    Returns:
        Suffix -> bytes in the order of `PARTS`.

    Raises:
        DecodeError: A medium that was never checked cannot be decoded.
    """
    final: dict[str, bytes] = {"json": record.card()}
    for suffix, encoded in members.items():
        kind, place = modality_of(PARTS[suffix]), suffix[: suffix.rfind(".") + 1]
        if kind == "image" and config.image_short_side is not None:
            form, encoded = _smaller_image(suffix.removeprefix(place), encoded, config)
            suffix = place + form
        elif kind == "audio" and config.audio == "flac16k":
            suffix, encoded = place + "flac", _mono_flac(encoded)
        final[suffix] = encoded
    return {suffix: final[suffix] for suffix in PARTS if suffix in final}


def _smaller_image(suffix: str, encoded: bytes, config: EncodeConfig) -> tuple[str, bytes]:
    assert config.image_short_side is not None
    pixels = decode_image(encoded, suffix)
    height, width = pixels.shape[1:]
    scale = config.image_short_side / min(height, width)
    if scale >= 1.0 and suffix == "jpg":
        return suffix, encoded
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    if scale < 1.0:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    out = BytesIO()
    picture.save(out, "JPEG", quality=config.jpeg_quality)
    return "jpg", out.getvalue()


def _mono_flac(encoded: bytes) -> bytes:
    with soundfile.SoundFile(BytesIO(encoded)) as recording:
        form = (recording.format, recording.subtype, recording.channels, recording.samplerate)
    if form == ("FLAC", "PCM_16", 1, FLAC_RATE_HZ):
        return encoded
    with _one_thread():
        decode = DecodeConfig(sample_rate_hz=FLAC_RATE_HZ, max_seconds=WHOLE_SECONDS)
        waveform = decode_audio(encoded, decode).numpy()
    rounded = np.rint(np.clip(waveform, -1.0, 1.0) * 32767.0).astype(np.int16)
    out = BytesIO()
    soundfile.write(out, rounded, FLAC_RATE_HZ, format="FLAC", subtype="PCM_16")
    return out.getvalue()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads may differ in the last bit, and with it the rounded samples."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
