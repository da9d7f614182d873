"""The deterministic way from a decoded sample to the backbone's input; travels with it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from data_sharding.batch import DecodedSample, SampleTensors


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Fixed shapes of a sample."""

    size_pixels: int
    """Side of the square picture."""

    max_tokens: int
    """Tokens of a text."""

    clip_samples: int
    """Samples of a clip in evaluation; shorter ones are padded with silence."""


class Preprocess:
    """The whole picture squeezed to a square, the start of the clip, the first tokens."""

    def __init__(self, config: PreprocessConfig) -> None:
        self.config = config

    def __call__(self, sample: DecodedSample) -> SampleTensors:
        """One view of the sample, the same each time."""
        size, clip = self.config.size_pixels, self.config.clip_samples
        image = torch.zeros(1, 3, size, size, dtype=torch.uint8)
        if sample.image is not None:
            image[0] = TF.resize(sample.image, [size, size], antialias=True)
        waveform = torch.zeros(1, clip)
        if sample.waveform is not None:
            waveform[0] = fit_clip(sample.waveform, 0, clip)
        token_ids, token_mask = fit_tokens(sample.token_ids, self.config.max_tokens)
        return SampleTensors(
            token_ids=token_ids[None], token_mask=token_mask[None], image=image, waveform=waveform
        )


def fit_clip(
    waveform: Float32[Tensor, " time"], start: int, length: int
) -> Float32[Tensor, " length"]:
    """``length`` samples from ``start``, padded with silence at the end."""
    clip = torch.zeros(length)
    piece = waveform[start : start + length]
    clip[: len(piece)] = piece
    return clip


def fit_tokens(
    token_ids: Int64[Tensor, " token"] | None, max_tokens: int
) -> tuple[Int64[Tensor, " length"], Bool[Tensor, " length"]]:
    """Ids padded with 0 or cut (the last token, [SEP], is kept), and where they are real."""
    ids = torch.zeros(max_tokens, dtype=torch.int64)
    mask = torch.zeros(max_tokens, dtype=torch.bool)
    if token_ids is not None:
        count = min(len(token_ids), max_tokens)
        ids[:count] = token_ids[:count]
        ids[count - 1] = token_ids[-1]
        mask[:count] = True
    return ids, mask


def to_unit_range(image: UInt8[Tensor, "*batch 3 height width"]) -> Tensor:
    """Bytes to float32 in [0, 1]."""
    return image.float() / 255.0
