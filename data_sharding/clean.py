"""Which records may enter a shard; what can be decided from headers is decided before decoding.

Every rejection has one of these reasons: ``bad-row``, ``invalid-utf8``, ``empty-sample``,
``text-too-long``, ``missing-file``, ``outside-corpus``, ``file-too-large``, ``not-an-image``,
``too-many-pixels``, ``broken-image``, ``not-audio``, ``broken-audio``, ``audio-too-short``,
``audio-too-long``, ``silent-audio``, ``non-finite-audio``.
"""

import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from data_sharding.decode import PILLOW_ERRORS, decode_image, refuse_odd_rate
from data_sharding.schema import PARTS, DecodeError, Record, Rejection

IMAGE_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
AUDIO_SUFFIXES = {"FLAC": "flac", "WAV": "wav", "WAVEX": "wav", "OGG": "ogg", "MP3": "mp3"}
SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PILLOW_PIXEL_LIMIT = 178_956_970
"""Pillow itself refuses larger pictures."""
MAX_CHANNELS = 16
REFERENCE_RATE_HZ = 16_000
"""Recordings must be resamplable to this rate."""
BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Limits that a sample must keep; one that does not is rejected, the rest goes on."""

    max_text_bytes: int = 100_000
    """Longest text, in bytes of UTF-8."""

    max_image_bytes: int = 64 * 1024 * 1024
    """Largest image file."""

    max_image_pixels: int = 50_000_000
    """Largest width times height, read from the header before anything is decoded."""

    max_audio_bytes: int = 256 * 1024 * 1024
    """Largest audio file."""

    min_audio_seconds: float = 0.1
    """Shortest recording."""

    max_audio_seconds: float = 600.0
    """Longest recording, read from the header before anything is decoded."""

    silence_peak: float = 1e-4
    """A recording whose samples all stay at or below this is silent (1e-4 = -80 dBFS)."""

    def __post_init__(self) -> None:
        for name in ("max_text_bytes", "max_image_bytes", "max_image_pixels", "max_audio_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"clean.{name} must be at least 1, got {getattr(self, name)}")
        if self.max_image_pixels > PILLOW_PIXEL_LIMIT:
            raise ValueError(f"clean.max_image_pixels must be at most {PILLOW_PIXEL_LIMIT}")
        if not 0.0 <= self.min_audio_seconds < self.max_audio_seconds:
            raise ValueError("clean needs 0 <= min_audio_seconds < max_audio_seconds")
        if not 0.0 <= self.silence_peak < 1.0:
            raise ValueError(f"clean.silence_peak must be in [0, 1), got {self.silence_peak}")


def clean_record(record: Record, folder: Path, config: CleanConfig) -> dict[str, bytes]:
    """The members of a sample, suffix -> bytes, in the order of writing.

    Media are kept byte for byte; their suffix follows their content, not their file's name.

    Args:
        record: One row of a corpus.
        folder: The corpus folder; media outside it are refused.
        config: Limits.

    Raises:
        Rejection: With its reason.
    """
    if not SPLIT_NAME.fullmatch(record.split):
        raise Rejection("bad-row", f"{record.split!r} is no name for a split")
    members: dict[str, bytes] = {}
    text = (record.text or "").strip().encode("utf-8")
    if len(text) > config.max_text_bytes:
        raise Rejection("text-too-long", f"{len(text)} bytes, the limit is {config.max_text_bytes}")
    if text:
        members["txt"] = text
    if record.image is not None:
        encoded = read_medium(record.image, folder, config.max_image_bytes)
        members[check_image(encoded, config)] = encoded
    if record.audio is not None:
        encoded = read_medium(record.audio, folder, config.max_audio_bytes)
        members[check_audio(encoded, config)] = encoded
    if not members:
        raise Rejection("empty-sample", "it has no text, no image and no audio")
    members["json"] = record.card()
    return {suffix: members[suffix] for suffix in PARTS if suffix in members}


def read_medium(name: str, folder: Path, max_bytes: int) -> bytes:
    """Reads a corpus file that lies inside the corpus folder, links followed.

    Raises:
        Rejection: ``outside-corpus``, ``missing-file`` or ``file-too-large``.
    """
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise Rejection("outside-corpus", f"{name!r} leads out of the corpus folder")
        if not path.is_file():
            raise Rejection("missing-file", f"{name!r} is no file of the corpus")
        size = path.stat().st_size
        if size > max_bytes:
            raise Rejection(
                "file-too-large", f"{name!r} has {size} bytes, the limit is {max_bytes}"
            )
        return path.read_bytes()
    except OSError as error:
        raise Rejection("missing-file", f"{name!r} cannot be read ({error.strerror})") from error
    except (ValueError, RuntimeError) as error:  # a NUL in the name; a loop of links
        raise Rejection("missing-file", f"{name!r} is no path ({error})") from error


def check_image(encoded: bytes, config: CleanConfig) -> str:
    """Checks size by the header, then decodes once; returns the suffix of its kind.

    Raises:
        Rejection: ``not-an-image``, ``too-many-pixels`` or ``broken-image``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(encoded), formats=("JPEG", "PNG", "WEBP")) as picture:
                (width, height), kind = picture.size, picture.format or ""
    except Image.DecompressionBombError as error:
        raise Rejection("too-many-pixels", f"more than {PILLOW_PIXEL_LIMIT} pixels") from error
    except PILLOW_ERRORS as error:
        raise Rejection("not-an-image", "no JPEG, PNG or WebP picture") from error
    if width * height > config.max_image_pixels:
        raise Rejection(
            "too-many-pixels", f"{width} x {height}, the limit is {config.max_image_pixels} pixels"
        )
    suffix = IMAGE_SUFFIXES[kind]
    try:
        decode_image(encoded, suffix)
    except DecodeError as error:
        raise Rejection("broken-image", str(error)) from error
    return suffix


def check_audio(encoded: bytes, config: CleanConfig) -> str:
    """Checks duration by the header, then decodes once; returns the suffix of its kind.

    Raises:
        Rejection: ``not-audio``, ``audio-too-short``, ``audio-too-long``, ``broken-audio``,
            ``silent-audio`` or ``non-finite-audio``.
    """
    try:
        recording = soundfile.SoundFile(BytesIO(encoded))
    except (RuntimeError, TypeError, ValueError) as error:
        raise Rejection("not-audio", "no FLAC, WAV, Ogg or MP3 recording") from error
    with recording:
        if recording.format not in AUDIO_SUFFIXES:
            raise Rejection("not-audio", f"{recording.format} is not FLAC, WAV, Ogg or MP3")
        _check_audio_header(recording, config)
        _check_waveform(recording, config)
        return AUDIO_SUFFIXES[recording.format]


def _check_audio_header(recording: soundfile.SoundFile, config: CleanConfig) -> None:
    try:
        refuse_odd_rate(recording.samplerate, REFERENCE_RATE_HZ)
    except DecodeError as error:
        raise Rejection("broken-audio", str(error)) from error
    if recording.channels > MAX_CHANNELS:
        raise Rejection("broken-audio", f"{recording.channels} channels, at most {MAX_CHANNELS}")
    seconds = recording.frames / recording.samplerate
    if seconds < config.min_audio_seconds:
        limit = f"the least is {config.min_audio_seconds:g}"
        raise Rejection("audio-too-short", f"{seconds:.3f} seconds, {limit}")
    if seconds > config.max_audio_seconds:
        limit = f"the limit is {config.max_audio_seconds:g}"
        raise Rejection("audio-too-long", f"{seconds:.1f} seconds, {limit}")


def _check_waveform(recording: soundfile.SoundFile, config: CleanConfig) -> None:
    """Decodes block by block, so that memory stays bounded whatever the header says."""
    frames, peak = 0, 0.0
    try:
        while len(block := recording.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
            frames += len(block)
            if not np.isfinite(block).all():
                raise Rejection("non-finite-audio", "it holds NaN or infinity")
            # The mean is what the decoder hears: two channels in opposite phase are silence.
            peak = max(peak, float(np.abs(block.mean(axis=1)).max()))
    except Rejection:
        raise
    except (RuntimeError, TypeError, ValueError) as error:
        raise Rejection("broken-audio", str(error)) from error
    if frames < recording.frames and recording.format != "MP3":
        raise Rejection("broken-audio", f"ends after {frames} of {recording.frames} frames")
    if peak <= config.silence_peak:
        raise Rejection("silent-audio", f"its peak is {peak:.1e}")
