"""Bytes -> token ids, uint8 image, float32 waveform. An allow-list; nothing is ever unpickled."""

import json
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from io import BytesIO
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from torch import Tensor
from torchaudio.transforms import Resample

from data_sharding.batch import DecodedSample
from data_sharding.schema import (
    ALTERNATIVES,
    MAIN_PARTS,
    PARTS,
    Buffer,
    DecodeError,
    RawSample,
    modality_of,
)

PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises on broken files."""

RGB_MODE = 3
"""torchvision's `ImageReadMode.RGB`."""
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 384_000
MAX_FILTER_WEIGHTS = 4_000_000


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """What decoded media look like."""

    sample_rate_hz: int = 16_000
    """Rate that every waveform is resampled to."""

    max_seconds: float = 30.0
    """Only this much of a recording is read, from its start."""

    alternatives: bool = False
    """Whether a sample's alternatives are decoded as well, all of them; training's views draw
    from them, evaluation does without."""

    def __post_init__(self) -> None:
        if self.sample_rate_hz < 1 or not self.max_seconds > 0.0:
            raise ValueError(
                "decode.sample_rate_hz and decode.max_seconds must be positive, got "
                f"{self.sample_rate_hz} and {self.max_seconds}"
            )


@cache
def jpeg_operator() -> Callable[[Tensor, int, bool], Tensor] | None:
    """The decoder of torchvision without its Python wrapper, which warns that it will go.

    None when it has gone; Pillow then takes over.
    """
    # Its library alone: torchvision's Python imports torch's compiler, which would take each
    # worker more than a second. `image_stable` since torchvision 0.27, `image` before.
    found = find_spec("torchvision")
    for folder in (found.submodule_search_locations if found else None) or ():
        for library in Path(folder).glob("image*.so"):
            torch.ops.load_library(library)
    return getattr(torch.ops.image, "decode_jpeg", None)


def decode_image(encoded: Buffer, suffix: str) -> UInt8[Tensor, "3 height width"]:
    """Decodes a JPEG, PNG or WebP to RGB, turned as EXIF says, transparency laid over white.

    torchvision decodes JPEG, in half of Pillow's time and to the same pixels. PNG and WebP go
    through Pillow, because torchvision 0.29's PNG decoder ends the process (segmentation fault) on
    a file with one flipped byte.

    Raises:
        DecodeError: The bytes are no whole picture of the kind that `suffix` says.
    """
    if suffix == "jpg" and (decode_jpeg := jpeg_operator()) is not None:
        try:
            jpeg = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
            return decode_jpeg(jpeg, RGB_MODE, True)
        except (RuntimeError, ValueError) as error:
            raise DecodeError(f"broken JPEG: {_last_clause(error)}") from error
    return decode_with_pillow(encoded, suffix)


def decode_with_pillow(encoded: Buffer, suffix: str) -> UInt8[Tensor, "3 height width"]:
    """What `decode_image` does, for every kind of picture by Pillow.

    Raises:
        DecodeError: As `decode_image`.
    """
    kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[suffix]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(BytesIO(encoded), formats=(kind,))
            if kind == "WEBP" and getattr(picture, "n_frames", 1) > 1:
                raise DecodeError("animated WebP is not a single picture")
            return picture_pixels(picture)
    except PILLOW_ERRORS as error:
        raise DecodeError(f"broken {kind}: {_last_clause(error)}") from error


def picture_pixels(picture: Image.Image) -> UInt8[Tensor, "3 height width"]:
    """RGB of an opened picture, turned as EXIF says, transparency laid over white."""
    pixels = np.array(_to_rgb(ImageOps.exif_transpose(picture)))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _to_rgb(picture: Image.Image) -> Image.Image:
    """RGB with 8 bits a channel; Pillow alone would clip 16-bit grey instead of scaling it."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.uint32) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def decode_audio(encoded: Buffer, config: DecodeConfig) -> Float32[Tensor, "time"]:
    """Decodes FLAC, WAV, Ogg or MP3 to mono at the configured rate.

    Raises:
        DecodeError: The bytes are no recording, it is empty, or it holds NaN or infinity.
    """
    frames, sample_rate_hz = read_frames(encoded, config.max_seconds)
    mono = torch.from_numpy(frames.mean(axis=1, dtype=np.float32))
    return resampled(mono, sample_rate_hz, config.sample_rate_hz)


def resampled(
    mono: Float32[Tensor, "time"], from_hz: int, to_hz: int
) -> Float32[Tensor, "resampled"]:
    """A waveform at another sample rate.

    Raises:
        DecodeError: It is empty or holds NaN or infinity, or its rate is no audio rate.
    """
    if len(mono) == 0:
        raise DecodeError("audio holds no samples")
    if not torch.isfinite(mono).all():
        raise DecodeError("audio holds NaN or infinity")
    refuse_odd_rate(from_hz, to_hz)
    return _resampler(from_hz, to_hz)(mono)


def read_frames(
    encoded: Buffer, max_seconds: float
) -> tuple[Float32[np.ndarray, "time channel"], int]:
    """Reads at most `max_seconds` of a recording, and its sample rate in Hz.

    Raises:
        DecodeError: The bytes are no recording that libsndfile reads.
    """
    try:
        with soundfile.SoundFile(BytesIO(encoded)) as recording:
            rate = recording.samplerate
            wanted = min(recording.frames, max(1, round(max_seconds * rate)))
            return recording.read(wanted, dtype="float32", always_2d=True), rate
    except (RuntimeError, TypeError, ValueError) as error:
        raise DecodeError(f"broken audio: {_last_clause(error)}") from error


def refuse_odd_rate(from_hz: int, to_hz: int) -> None:
    """A resampling filter has about ``from_hz * to_hz / gcd**2`` weights: gigabytes for 44101 Hz.

    Raises:
        DecodeError: The two rates share too small a divisor, or the rate is no audio rate.
    """
    divisor = gcd(from_hz, to_hz)
    if not MIN_RATE_HZ <= from_hz <= MAX_RATE_HZ:
        raise DecodeError(f"a sample rate of {from_hz} Hz is outside {MIN_RATE_HZ}..{MAX_RATE_HZ}")
    if (from_hz // divisor) * (to_hz // divisor) > MAX_FILTER_WEIGHTS:
        raise DecodeError(f"a sample rate of {from_hz} Hz cannot be resampled to {to_hz} Hz")


@lru_cache(maxsize=32)
def _resampler(from_hz: int, to_hz: int) -> Resample:
    """A resampler keeps its filter; computing that anew for every clip would cost more than use."""
    return Resample(from_hz, to_hz)


class Decoder:
    """Turns a raw sample into tensors; picklable, so that worker processes can hold one."""

    def __init__(self, tokenizer_file: Path, config: DecodeConfig | None = None) -> None:
        if not tokenizer_file.is_file():
            raise ValueError(f"{tokenizer_file} does not exist; make it with `triptych stats`")
        self.config = config or DecodeConfig()
        self.tokenizer = Tokenizer.from_str(tokenizer_file.read_text(encoding="utf-8"))

    def decode(self, raw: RawSample, epoch: int = 0) -> DecodedSample:
        """Decodes every member that the allow-list knows.

        Raises:
            DecodeError: A member is broken; the message names it.
        """
        found = {PARTS[suffix]: suffix for suffix in PARTS if suffix in raw.members}
        if not self.config.alternatives:
            found = {part: suffix for part, suffix in found.items() if suffix in MAIN_PARTS}
        decoded: dict[str, Any] = {}
        for part, suffix in found.items():
            try:
                decoded[part] = self._decode_member(raw.members[suffix], suffix)
            except DecodeError as error:
                raise DecodeError(f"{raw.key}.{suffix}: {error}") from error
        text = decoded.get("text")
        return DecodedSample(
            key=raw.key,
            sample_id=raw.sample_id,
            epoch=epoch,
            token_ids=None if text is None else self.tokenize(text),
            image=decoded.get("image"),
            waveform=decoded.get("audio"),
            text=text,
            metadata=decoded.get("card"),
            alternatives=self._alternatives(decoded),
        )

    def _alternatives(self, decoded: Mapping[str, Any]) -> dict[str, tuple[Tensor, ...]]:
        """The decoded alternatives of each modality, in the order of their numbers."""
        gathered: dict[str, tuple[Tensor, ...]] = {}
        for part in ALTERNATIVES:
            if part in decoded:
                modality, content = modality_of(part), decoded[part]
                tensor = self.tokenize(content) if modality == "text" else content
                gathered[modality] = (*gathered.get(modality, ()), tensor)
        return gathered

    def tokenize(self, text: str) -> Int64[Tensor, "token"]:
        """Token ids of `text` with [CLS] and [SEP]; not cut to a length."""
        return torch.tensor(self.tokenizer.encode(text).ids, dtype=torch.int64)

    def _decode_member(self, encoded: Buffer, suffix: str) -> str | Mapping[str, Any] | Tensor:
        modality, kind = modality_of(PARTS[suffix]), suffix.rpartition(".")[2]
        if modality == "image":
            return decode_image(encoded, kind)
        if modality == "audio":
            return decode_audio(encoded, self.config)
        try:
            text = bytes(encoded).decode("utf-8")
            content = text if modality == "text" else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"not UTF-8 {suffix}: {error}") from error
        if modality == "card" and not isinstance(content, dict):
            raise DecodeError(f"a JSON object is needed, this is a {type(content).__name__}")
        return content


def _last_clause(error: Exception) -> str:
    """The telling end of a library's message, on one line and without source paths."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line.rsplit(".cpp:", 1)[-1].split(", ", 1)[-1] if ".cpp:" in line else line
