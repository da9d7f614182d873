"""Read Tux Paint's stamps: a picture, its description, and the description spoken."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

LANGUAGES = ("fr", "es", "ro", "ru", "bg")
"""English is left out: only animals are described aloud in it, so it would tell the topic."""
LONG_SIDE_PX = 112
MIN_SECONDS, MAX_SECONDS = 0.2, 4.0
SILENCE = 0.02
"""Below this share of its own peak (-34 dB) the start and the end of a clip are cut off."""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """One picture that has its text and its recording in at least one of our languages."""

    key: str
    topic: str
    png: Path
    text_en: str
    texts: dict[str, str]
    """By language; each has its recording."""
    variant_name: str
    thumbnail: np.ndarray
    """float32 [16, 16, 3] in [0, 1], the picture as the duplicate search sees it."""


def variant_name(png: Path) -> str:
    """The name without what tells variants apart: ``frog-1`` and ``frog`` are ``frog``."""
    name = re.sub(r"^(w|b)_(?=\d)", "", png.stem.lower())  # white and black chess pieces
    name = re.sub(r"[-_]?(filled|outline|cartoon)$", "", name)
    return re.sub(r"[-_ ]*[0-9]+$", "", name) or name


def read_picture(png: Path) -> Image.Image:
    """The picture without its transparent border, on white, long side 112 px."""
    picture = Image.open(png).convert("RGBA")
    picture = picture.crop(picture.getchannel("A").getbbox())
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("RGB")
    scale = LONG_SIDE_PX / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def thumbnail(picture: Image.Image) -> np.ndarray:
    """The picture stretched to 16 x 16; float32 [16, 16, 3] in [0, 1]."""
    small = picture.resize((16, 16), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0


def read_texts(txt: Path) -> dict[str, str]:
    """The description in each of our languages and in English ("en", the first line)."""
    lines = [line.strip() for line in txt.read_text(encoding="utf-8").splitlines()]
    texts = {"en": lines[0]} if lines else {}
    for line in lines[1:]:
        language, _, text = line.partition(".utf8=")
        if language in LANGUAGES and text.strip():
            texts[language] = text.strip()
    return texts


def recording(png: Path, language: str) -> Path:
    """Where the package keeps the spoken description of a picture."""
    return png.with_name(f"{png.stem}_desc_{language}.ogg")


def read_speech(ogg: Path) -> tuple[np.ndarray, int]:
    """The recording without the silence around it: float32 [time], mono, and its rate in Hz."""
    waveform, rate = soundfile.read(ogg, dtype="float32", always_2d=True)
    mono = waveform.mean(axis=1)
    loudness = np.abs(mono)
    if loudness.max(initial=0.0) < 1e-3:
        raise ValueError(f"{ogg}: nothing is audible; leave the file out")
    loud = np.flatnonzero(loudness > SILENCE * loudness.max())
    margin = rate // 50
    return mono[max(0, loud[0] - margin) : loud[-1] + margin], rate


def is_usable(ogg: Path) -> bool:
    """Whether a recording is there and, by its header, neither a click nor over four seconds."""
    return ogg.exists() and MIN_SECONDS <= soundfile.info(ogg).duration <= MAX_SECONDS


def read_stamp(png: Path, topic: str, key: str) -> Stamp | None:
    """The stamp of a picture, or None where no language has both text and sound."""
    if not png.with_suffix(".txt").exists():
        return None
    texts = read_texts(png.with_suffix(".txt"))
    english = texts.pop("en", "")
    spoken = {one: text for one, text in texts.items() if is_usable(recording(png, one))}
    if not english or not spoken:
        return None
    return Stamp(
        key=key,
        topic=topic,
        png=png,
        text_en=english,
        texts=spoken,
        variant_name=variant_name(png),
        thumbnail=thumbnail(read_picture(png)),
    )


def read_stamps(folder: Path, topics: Sequence[str]) -> Iterator[Stamp]:
    """All stamps that can become a row, by topic and path."""
    for topic in topics:
        for png in sorted((folder / topic).rglob("*.png")):
            key = "-".join(png.relative_to(folder).with_suffix("").parts)
            stamp = read_stamp(png, topic, key)
            if stamp is not None:
                yield stamp
