"""One sample's measures: from headers and the JSON card, nothing is decoded."""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import soundfile
from PIL import Image

from data_sharding.decode import PILLOW_ERRORS
from data_sharding.schema import MAIN_PARTS, Buffer, RawSample

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP")
LONGEST_WORD = 60
"""Characters of a language tag or label that are kept."""


@dataclass(frozen=True, kw_only=True)
class SampleFacts:
    """What one sample's headers and card say; None where it has no such part.

    Attributes:
        width: Of the picture, in pixels, before EXIF turns it.
        height: As `width`.
        seconds: Length of the recording.
        sample_rate_hz: Of the recording.
        channels: Of the recording.
        characters: Length of the text.
        language: ``metadata.language`` of the card.
        labels: The card's labels.
        unreadable: Suffixes of parts whose header cannot be read.
    """

    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    characters: int | None = None
    language: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


def measure(sample: RawSample) -> SampleFacts:
    """Measures a sample; a part with a broken header is named, not raised."""
    found: dict[str, Any] = {}
    unreadable = []
    measures = {"image": _picture, "audio": _recording, "text": _text, "card": _card}
    for suffix, content in sample.members.items():
        try:
            if suffix in MAIN_PARTS:
                found.update(measures[MAIN_PARTS[suffix]](content))
        except (*PILLOW_ERRORS, RuntimeError, TypeError):
            unreadable.append(suffix)
    return SampleFacts(**found, unreadable=tuple(unreadable))


def read_card(content: Buffer) -> dict[str, Any]:
    """A sample's JSON; empty where a foreign one holds no object.

    Raises:
        ValueError: It is no UTF-8 JSON.
        RecursionError: It is nested too deeply.
    """
    card = json.loads(bytes(content))
    return card if isinstance(card, dict) else {}


def picture_size(content: Buffer) -> tuple[int, int]:
    """Width and height from the header; Pillow's warning of a large picture is not printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(BytesIO(content), formats=PICTURE_FORMATS) as picture:
            return picture.size


def _picture(content: Buffer) -> dict[str, Any]:
    width, height = picture_size(content)
    return {"width": width, "height": height}


def _recording(content: Buffer) -> dict[str, Any]:
    with soundfile.SoundFile(BytesIO(content)) as recording:
        return {
            "seconds": recording.frames / recording.samplerate,
            "sample_rate_hz": recording.samplerate,
            "channels": recording.channels,
        }


def _text(content: Buffer) -> dict[str, Any]:
    return {"characters": len(bytes(content).decode("utf-8"))}


def _card(content: Buffer) -> dict[str, Any]:
    card = read_card(content)
    metadata, labels = card.get("metadata"), card.get("labels")
    language = metadata.get("language") if isinstance(metadata, dict) else None
    return {
        "language": str(language)[:LONGEST_WORD] if language else None,
        "labels": {
            str(name)[:LONGEST_WORD]: str(value)[:LONGEST_WORD]
            for name, value in (labels.items() if isinstance(labels, dict) else ())
        },
    }
