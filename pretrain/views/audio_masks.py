"""Masked bands and frames of a log-mel, off by default (SpecAugment, Park et al. 2019)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pretrain.views.checks import Pair, check_pairs


@dataclass(frozen=True, kw_only=True)
class SpectrogramMaskConfig:
    """How many bands and frames are hidden (arXiv 1904.08779; without its time warp)."""

    time_probability: Pair = (0.0, 0.0)
    """Chance that stretches of frames are masked in the first and the second view."""

    time_stretches: int = 1
    """Stretches of frames that are masked."""

    time_share: float = 0.2
    """Largest share of the clip's frames in one stretch."""

    frequency_probability: Pair = (0.0, 0.0)
    """Chance that groups of mel bands are masked in the first and the second view."""

    frequency_groups: int = 1
    """Groups of bands that are masked."""

    frequency_share: float = 0.2
    """Largest share of the bands in one group."""

    def __post_init__(self) -> None:
        for name in ("time_stretches", "frequency_groups"):
            if getattr(self, name) < 1:
                value = getattr(self, name)
                raise ValueError(f"views.audio.masks.{name} must be positive, got {value}")
        for name in ("time_share", "frequency_share"):
            if not 0.0 < getattr(self, name) <= 1.0:
                value = getattr(self, name)
                raise ValueError(f"views.audio.masks.{name} must be in (0, 1], got {value}")
        check_pairs(self, "audio.masks", ("time_probability", "frequency_probability"))


def mask_log_mel(
    log_mel: Float[Tensor, "mel frame"],
    view: int,
    config: SpectrogramMaskConfig,
    generator: np.random.Generator,
) -> Float[Tensor, "mel frame"]:
    """Bands and frames set to the clip's mean.

    torchaudio's masks draw from torch's global generator, and fill with 0, which is loud in a
    log-mel that is not normalised yet.
    """
    chance = generator.random(2)
    masked = torch.zeros(log_mel.shape, dtype=torch.bool)
    num_mels, num_frames = log_mel.shape
    bands = _stretches(num_mels, config.frequency_groups, config.frequency_share, generator)
    frames = _stretches(num_frames, config.time_stretches, config.time_share, generator)
    if chance[0] < config.time_probability[view]:
        for start, stop in frames:
            masked[:, start:stop] = True
    if chance[1] < config.frequency_probability[view]:
        for start, stop in bands:
            masked[start:stop] = True
    return torch.where(masked, log_mel.mean(), log_mel) if bool(masked.any()) else log_mel


def _stretches(
    length: int, count: int, share: float, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """``count`` stretches ``[start, stop)`` of 0 up to ``share * length``."""
    sizes = [int(generator.integers(math.floor(length * share) + 1)) for _ in range(count)]
    starts = [int(generator.integers(length - size + 1)) for size in sizes]
    return [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
