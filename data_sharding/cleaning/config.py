"""The limits that a corpus row must keep to become a sample."""

from dataclasses import dataclass, field
from typing import Literal

from data_sharding.retry import RetryConfig

PILLOW_PIXEL_LIMIT = 178_956_970
"""Pillow itself refuses larger pictures."""

Modality = Literal["text", "image", "audio"]
ImageFormat = Literal["jpg", "png", "webp"]
AudioFormat = Literal["flac", "wav", "ogg", "mp3"]


@dataclass(frozen=True, kw_only=True)
class CleanConfig:
    """Limits that a sample must keep; one that does not is rejected, the rest goes on."""

    require: tuple[Modality, ...] = ()
    """Modalities that every sample must have: ``text image``. Empty: any one is enough."""

    text_form: Literal["NFC", "NFKC", "none"] = "NFC"
    """Unicode form of every text. NFC joins letters with their accents and changes nothing that
    can be seen; NFKC also folds wide and styled letters; none leaves the text as it is."""

    control_characters: Literal["reject", "remove"] = "reject"
    """What becomes of a text with NUL or another control character (tab and line ends are none)."""

    min_text_characters: int = 1
    """Shortest text, spaces at its ends not counted. An empty text counts as a missing one."""

    max_text_characters: int = 100_000
    """Longest text in characters."""

    max_text_bytes: int = 100_000
    """Longest text in bytes of UTF-8."""

    image_formats: tuple[ImageFormat, ...] = ("jpg", "png", "webp")
    """Kinds of picture that are let in; a file's bytes tell its kind, not its name."""

    max_image_bytes: int = 64 * 1024 * 1024
    """Largest image file."""

    max_image_pixels: int = 50_000_000
    """Largest width times height, read from the header before anything is decoded."""

    min_image_side: int = 1
    """Smallest width and height in pixels."""

    audio_formats: tuple[AudioFormat, ...] = ("flac", "wav", "ogg", "mp3")
    """Kinds of recording that are let in; ogg is Vorbis and Opus."""

    max_audio_bytes: int = 256 * 1024 * 1024
    """Largest audio file."""

    min_audio_seconds: float = 0.1
    """Shortest recording."""

    max_audio_seconds: float = 600.0
    """Longest recording, read from the header before anything is decoded."""

    max_audio_channels: int = 16
    """Most channels; they are averaged to one when a sample is decoded."""

    min_sample_rate_hz: int = 4_000
    """Lowest sample rate."""

    max_sample_rate_hz: int = 192_000
    """Highest sample rate."""

    silence_peak: float = 1e-4
    """A recording whose samples all stay at or below this is silent (1e-4 = -80 dBFS)."""

    retry: RetryConfig = field(default_factory=RetryConfig)
    """How often a medium that cannot be read is tried again, before the job fails. The same
    command goes on from there."""

    def __post_init__(self) -> None:
        for name in (
            "min_text_characters", "max_text_bytes", "max_image_bytes", "max_image_pixels",
            "min_image_side", "max_audio_bytes", "max_audio_channels", "min_sample_rate_hz",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"clean.{name} must be at least 1, got {getattr(self, name)}")
        if self.min_text_characters > self.max_text_characters:
            raise ValueError("clean needs min_text_characters <= max_text_characters")
        if self.max_image_pixels > PILLOW_PIXEL_LIMIT:
            raise ValueError(f"clean.max_image_pixels must be at most {PILLOW_PIXEL_LIMIT}")
        if not 0.0 <= self.min_audio_seconds < self.max_audio_seconds:
            raise ValueError("clean needs 0 <= min_audio_seconds < max_audio_seconds")
        if self.min_sample_rate_hz > self.max_sample_rate_hz:
            raise ValueError("clean needs min_sample_rate_hz <= max_sample_rate_hz")
        if not 0.0 <= self.silence_peak < 1.0:
            raise ValueError(f"clean.silence_peak must be in [0, 1), got {self.silence_peak}")
