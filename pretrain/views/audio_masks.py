"""Masked bands and frames of a log-mel, off by default (SpecAugment, Park et al. 2019)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from pretrain.views.checks import Pair, check_pairs
from pretrain.views.random import below, happens


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

    @property
    def num_draws(self) -> int:
        """Numbers that a clip's masks are made of: two chances, sizes and starts."""
        return 2 + 2 * self.frequency_groups + 2 * self.time_stretches


def mask_log_mel(
    log_mel: Float[Tensor, "view batch mel frame"],
    draws: Float64[Tensor, "view batch draw"],
    config: SpectrogramMaskConfig,
) -> Float[Tensor, "view batch mel frame"]:
    """Bands and frames set to their clip's mean.

    torchaudio's masks draw from torch's global generator, and fill with 0, which is loud in a
    log-mel that is not normalised yet.

    Args:
        log_mel: The clips of both views.
        draws: ``config.num_draws`` of each clip, even in [0, 1).
        config: How much is hidden.
    """
    if not any(config.time_probability + config.frequency_probability):
        return log_mel
    num_mels, num_frames = log_mel.shape[-2:]
    chances, of_bands, of_frames = draws.split(
        [2, 2 * config.frequency_groups, 2 * config.time_stretches], -1
    )
    bands = _stretches(num_mels, config.frequency_share, of_bands)
    bands = bands & happens(chances[..., 1], config.frequency_probability)[..., None]
    frames = _stretches(num_frames, config.time_share, of_frames)
    frames = frames & happens(chances[..., 0], config.time_probability)[..., None]
    hidden = bands[..., :, None] | frames[..., None, :]
    return torch.where(hidden, log_mel.mean((-2, -1), keepdim=True), log_mel)


def _stretches(
    length: int, share: float, draws: Float64[Tensor, "view batch draw"]
) -> Bool[Tensor, "view batch place"]:
    """Places in stretches of 0 up to ``share * length``; all sizes are drawn, then all starts."""
    of_sizes, of_starts = draws.chunk(2, -1)
    sizes = below(of_sizes, math.floor(length * share) + 1)
    starts = below(of_starts, length - sizes + 1)
    places = torch.arange(length, device=draws.device)
    starts, sizes = starts[..., None], sizes[..., None]
    return ((places >= starts) & (places < starts + sizes)).any(-2)
