"""Samples for the inspection page: small picture, text, spectrogram, sound; all as data URIs."""

import base64
import json
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import soundfile
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from data_sharding.decode import PILLOW_ERRORS, DecodeConfig, decode_audio, decode_image
from data_sharding.logmel import LogMel, LogMelConfig
from data_sharding.schema import MAIN_PARTS, Buffer, DecodeError, RawSample, SampleFault
from data_sharding.tools.inspection_facts import picture_size, read_card

SIDE = 360
"""Longest side of a picture on the page, in pixels."""
MAX_PIXELS = 100_000_000
"""Larger pictures are named, not decoded."""
HEARD_SECONDS = 8.0
"""Only this much of a recording is on the page."""
MOST_CHARACTERS = 600

HEAT = np.array(
    [[10, 8, 30], [72, 18, 110], [168, 46, 110], [238, 106, 66], [252, 190, 90], [252, 252, 210]],
    dtype=np.float32,
)
"""Colours of a spectrogram from quiet to loud."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One sample as the page shows it; empty where it has no such part.

    Attributes:
        key: Shard and row.
        text: The text, cut to a readable length.
        picture: Data URI of a JPEG.
        spectrogram: Data URI of a PNG.
        sound: Data URI of a FLAC.
        card: The JSON card, cut to a readable length.
        sizes: Suffix and bytes of each part, in words.
        problems: What could not be decoded.
    """

    key: str
    text: str = ""
    picture: str = ""
    spectrogram: str = ""
    sound: str = ""
    card: str = ""
    sizes: str = ""
    problems: tuple[str, ...] = ()


def make_card(sample: RawSample | SampleFault) -> Card:
    """Decodes a sample; what is broken becomes words on its card."""
    if isinstance(sample, SampleFault):
        return Card(key=sample.key, problems=(str(sample),))
    found: dict[str, str] = {}
    problems = []
    makers = {"image": _picture, "audio": _sound, "text": _text, "card": _card}
    for suffix, content in sample.members.items():
        try:
            if suffix in MAIN_PARTS:
                found.update(makers[MAIN_PARTS[suffix]](content, suffix))
        except (DecodeError, RecursionError, *PILLOW_ERRORS) as error:
            problems.append(f"{suffix}: {error}")
    sizes = ", ".join(f"{suffix} {len(part):,} B" for suffix, part in sample.members.items())
    return Card(key=sample.key, sizes=sizes, problems=tuple(problems), **found)


def _picture(content: Buffer, suffix: str) -> dict[str, str]:
    width, height = picture_size(content)
    pixels = width * height
    if pixels > MAX_PIXELS:
        raise DecodeError(f"{pixels} pixels are too many for this page")
    picture = Image.fromarray(decode_image(content, suffix).permute(1, 2, 0).numpy())
    picture.thumbnail((SIDE, SIDE))
    return {"picture": _encoded(picture, "JPEG", "image/jpeg")}


def _sound(content: Buffer, suffix: str) -> dict[str, str]:
    config = DecodeConfig(max_seconds=HEARD_SECONDS)
    waveform = decode_audio(content, config)
    sound = BytesIO()
    clipped = waveform.clamp(-1.0, 1.0).numpy()
    soundfile.write(sound, clipped, config.sample_rate_hz, format="FLAC", subtype="PCM_16")
    return {
        "sound": _data_uri(sound.getvalue(), "audio/flac"),
        "spectrogram": _encoded(draw_spectrogram(waveform), "PNG", "image/png"),
    }


def draw_spectrogram(waveform: Float[Tensor, "time"]) -> Image.Image:
    """Log-mel spectrogram, low notes at the bottom; a click is padded to one window."""
    config = LogMelConfig()
    missing = max(config.n_fft - len(waveform), 0)
    with torch.no_grad():
        mel = LogMel(config)(torch.nn.functional.pad(waveform, (0, missing))).numpy()
    low, high = np.percentile(mel, [5, 99.5])
    level = np.clip((mel[::-1] - low) / max(high - low, 1e-6), 0.0, 1.0) * (len(HEAT) - 1)
    below = np.minimum(level.astype(int), len(HEAT) - 2)
    part = (level - below)[..., None]
    colours = HEAT[below] * (1 - part) + HEAT[below + 1] * part
    return Image.fromarray(colours.astype(np.uint8)).resize((SIDE, 96))


def _text(content: Buffer, suffix: str) -> dict[str, str]:
    return {"text": _cut(bytes(content).decode("utf-8"))}


def _card(content: Buffer, suffix: str) -> dict[str, str]:
    return {"card": _cut(json.dumps(read_card(content), ensure_ascii=False, indent=1))}


def _cut(text: str) -> str:
    # A lone surrogate, which JSON can name, has no UTF-8.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole if len(whole) <= MOST_CHARACTERS else whole[:MOST_CHARACTERS] + "…"


def _encoded(picture: Image.Image, form: str, kind: str) -> str:
    encoded = BytesIO()
    picture.save(encoded, format=form, quality=85)
    return _data_uri(encoded.getvalue(), kind)


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
