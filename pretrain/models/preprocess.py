"""The deterministic way from a decoded sample to the backbone's input; travels with it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

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
        """One view of the sample, the same each time; zeros for what it lacks."""
        token_ids, token_mask = self.tokens(sample.token_ids)
        return SampleTensors(
            token_ids=token_ids[None],
            token_mask=token_mask[None],
            image=self.picture(sample.image)[None],
            waveform=self.clip(sample.waveform)[None],
        )

    def tokens(
        self, token_ids: Int64[Tensor, " token"] | None
    ) -> tuple[Int64[Tensor, " length"], Bool[Tensor, " length"]]:
        """Ids and mask of the first ``max_tokens``."""
        return fit_tokens(token_ids, self.config.max_tokens)

    def picture(
        self, image: UInt8[Tensor, "3 height width"] | None
    ) -> UInt8[Tensor, "3 side side"]:
        """The whole picture as a square."""
        size = self.config.size_pixels
        if image is None:
            return torch.zeros(3, size, size, dtype=torch.uint8)
        # Imported late: it takes seconds, and most commands look at no picture.
        from torchvision.transforms.v2 import functional as TF

        return TF.resize(image, [size, size], antialias=True)

    def clip(self, waveform: Float32[Tensor, " time"] | None) -> Float32[Tensor, " length"]:
        """The first ``clip_samples``."""
        given = torch.zeros(0) if waveform is None else waveform
        return fit_clip(given, 0, self.config.clip_samples)


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
