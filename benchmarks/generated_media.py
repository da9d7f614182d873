"""A corpus of generated media, for benchmarks of what reads and decodes it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from data_sharding.schema import canonical_json


def write_media(
    folder: Path, count: int, picture: Callable[[Image.Image, np.random.Generator], Image.Image]
) -> None:
    """JPEGs, four seconds of mono 16 kHz FLAC and 16 words for each sample, and their manifest.

    Args:
        folder: There already.
        count: Samples.
        picture: Makes a picture of 16 x 12 coloured fields and more draws.
    """
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        fields = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        picture(fields, rng).save(folder / f"{number}.jpg", quality=90)
        tone = np.sin(np.arange(4 * 16_000) * (0.02 + 0.001 * number))
        noise = rng.normal(0.0, 0.01, len(tone))
        soundfile.write(folder / f"{number}.flac", 0.4 * tone + noise, 16_000)
        rows.append(
            {
                "id": str(number),
                "text": " ".join(rng.choice(["red", "green", "blue", "sun", "rain"], 16)),
                "image": f"{number}.jpg",
                "audio": f"{number}.flac",
            }
        )
    (folder / "manifest.jsonl").write_bytes(b"\n".join(map(canonical_json, rows)) + b"\n")
