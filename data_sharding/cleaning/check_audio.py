"""Whether a recording may enter a shard: by its header first, then by decoding it once."""

from io import BytesIO

import numpy as np
import soundfile

from data_sharding.cleaning.config import CleanConfig
from data_sharding.cleaning.sniff import audio_suffix
from data_sharding.decode import refuse_odd_rate
from data_sharding.schema import DecodeError, Rejection

SUFFIXES = {"FLAC": "flac", "WAV": "wav", "WAVEX": "wav", "OGG": "ogg", "MP3": "mp3"}
"""libsndfile's name of a container -> ours."""
REFERENCE_RATE_HZ = 16_000
"""Recordings must be resamplable to this rate."""
BLOCK_FRAMES = 1 << 16


def audio_kind(encoded: bytes, config: CleanConfig) -> str:
    """The suffix of a recording's kind, from its first bytes.

    Raises:
        Rejection: ``not-audio`` or ``audio-format``.
    """
    suffix = audio_suffix(encoded)
    if suffix is None:
        raise Rejection("not-audio", "no FLAC, WAV, Ogg or MP3 recording")
    if suffix not in config.audio_formats:
        allowed = ", ".join(config.audio_formats)
        raise Rejection("audio-format", f"it is {suffix}; clean.audio_formats has {allowed}")
    return suffix


def check_audio(encoded: bytes, suffix: str, config: CleanConfig) -> None:
    """Checks a recording, block by block, so that memory stays bounded whatever its header says.

    Args:
        encoded: The file.
        suffix: Its kind, by `audio_kind`.
        config: Limits.

    Raises:
        Rejection: ``not-audio``, ``broken-audio``, ``audio-too-short``, ``audio-too-long``,
            ``too-many-channels``, ``sample-rate``, ``silent-audio`` or ``non-finite-audio``.
    """
    try:
        recording = soundfile.SoundFile(BytesIO(encoded))
    except (RuntimeError, TypeError, ValueError) as error:
        raise Rejection("not-audio", "no FLAC, WAV, Ogg or MP3 recording") from error
    with recording:
        if SUFFIXES.get(recording.format) != suffix:
            raise Rejection("not-audio", f"it begins like {suffix}, and is {recording.format}")
        _check_header(recording, config)
        _check_waveform(recording, config)


def _check_header(recording: soundfile.SoundFile, config: CleanConfig) -> None:
    _check_rate(recording.samplerate, config)
    if recording.channels > config.max_audio_channels:
        limit = f"the limit is {config.max_audio_channels}"
        raise Rejection("too-many-channels", f"{recording.channels} channels, {limit}")
    seconds = recording.frames / recording.samplerate
    if seconds < config.min_audio_seconds:
        limit = f"the least is {config.min_audio_seconds:g}"
        raise Rejection("audio-too-short", f"{seconds:.3f} seconds, {limit}")
    if seconds > config.max_audio_seconds:
        limit = f"the limit is {config.max_audio_seconds:g}"
        raise Rejection("audio-too-long", f"{seconds:.1f} seconds, {limit}")


def _check_rate(rate_hz: int, config: CleanConfig) -> None:
    if not config.min_sample_rate_hz <= rate_hz <= config.max_sample_rate_hz:
        limits = f"{config.min_sample_rate_hz} to {config.max_sample_rate_hz}"
        raise Rejection("sample-rate", f"{rate_hz} Hz, the limits are {limits}")
    try:
        refuse_odd_rate(rate_hz, REFERENCE_RATE_HZ)
    except DecodeError as error:
        raise Rejection("sample-rate", str(error)) from error


def _check_waveform(recording: soundfile.SoundFile, config: CleanConfig) -> None:
    frames, peak = 0, 0.0
    try:
        while len(block := recording.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
            frames += len(block)
            if not np.isfinite(block).all():
                raise Rejection("non-finite-audio", "it holds NaN or infinity")
            # The mean is what the decoder hears: two channels in opposite phase are silence.
            peak = max(peak, float(np.abs(block.mean(axis=1)).max()))
    except (RuntimeError, TypeError, ValueError) as error:
        raise Rejection("broken-audio", str(error)) from error
    if frames < recording.frames and recording.format != "MP3":
        raise Rejection("broken-audio", f"ends after {frames} of {recording.frames} frames")
    if peak <= config.silence_peak:
        raise Rejection("silent-audio", f"its peak is {peak:.1e}")
