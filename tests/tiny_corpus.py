"""Corpora of a few generated pictures, recordings and words, and the transform to read them."""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image

from data_sharding.batch import DecodedSample, SampleTensors

WORDS = ("red", "green", "blue", "кот", "花が咲く", "नमस्ते", "Çiçek")


def write_image(path: Path, number: int, size: tuple[int, int] = (24, 16)) -> None:
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_tone(path: Path, number: int, seconds: float = 0.2, rate: int = 16_000) -> None:
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * (200 + 30 * number) * time), rate)


def write_corpus(folder: Path, count: int, missing: tuple[str, ...] = ()) -> Path:
    """Writes `count` triples, half of them called test, and returns the manifest file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        suffix = ("jpg", "png", "webp")[number % 3]
        sound = ("wav", "flac", "ogg")[number % 3]
        write_image(folder / f"{number}.{suffix}", number)
        write_tone(folder / f"{number}.{sound}", number)
        row = {
            "id": f"sample.{number}",
            "text": f"{WORDS[number % len(WORDS)]} number {number}",
            "image": f"{number}.{suffix}",
            "audio": f"{number}.{sound}",
            "split": "train" if number % 4 else "test",
            "labels": {"colour": WORDS[number % 3]},
            "metadata": {"speaker": number},
        }
        rows.append({name: value for name, value in row.items() if name not in missing})
    return write_rows(folder, rows)


def write_rows(folder: Path, rows: list[dict]) -> Path:
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return manifest


class FixedShapes:
    """Pads or cuts every part to a fixed shape; importable, so that workers can unpickle it."""

    def __call__(self, sample: DecodedSample) -> SampleTensors:
        tokens = torch.zeros(1, 6, dtype=torch.int64)
        mask = torch.zeros(1, 6, dtype=torch.bool)
        image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        waveform = torch.zeros(1, 800)
        if sample.token_ids is not None:
            count = min(6, len(sample.token_ids))
            tokens[0, :count], mask[0, :count] = sample.token_ids[:count], True
        if sample.image is not None:
            image[0] = sample.image[:, :8, :8]
        if sample.waveform is not None:
            waveform[0] = sample.waveform[:800]
        return SampleTensors(token_ids=tokens, token_mask=mask, image=image, waveform=waveform)
