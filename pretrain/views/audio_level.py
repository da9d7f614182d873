"""Changes of a waveform, off by default: loudness and white noise."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from pretrain.views.audio_noise import white_noise
from pretrain.views.checks import Pair, check_pairs, check_range
from pretrain.views.random import below, between, happens

DECIBEL_LIMIT = 100.0

LEVEL_DRAWS = 6
"""Numbers that a clip's changes are made of: two chances, gain, ratio, the noise's key."""


@dataclass(frozen=True, kw_only=True)
class LevelConfig:
    """Gain, then noise, before the spectrogram is made."""

    gain_probability: Pair = (0.0, 0.0)
    """Chance of a change of loudness in the first and the second view."""

    gain_decibels: tuple[float, float] = (-6.0, 6.0)
    """Least and greatest change of loudness."""

    noise_probability: Pair = (0.0, 0.0)
    """Chance of white noise in the first and the second view."""

    noise_snr_decibels: tuple[float, float] = (10.0, 30.0)
    """Least and greatest ratio of the clip's power to the noise's."""

    def __post_init__(self) -> None:
        for name in ("gain_decibels", "noise_snr_decibels"):
            check_range(f"audio.level.{name}", getattr(self, name), -DECIBEL_LIMIT, DECIBEL_LIMIT)
        check_pairs(self, "audio.level", ("gain_probability", "noise_probability"))


def change_level(
    waveform: Float[Tensor, "view batch time"],
    draws: Float64[Tensor, "view batch 6"],
    config: LevelConfig,
) -> Float[Tensor, "view batch time"]:
    """Gain, then white noise at a ratio to the clip's own power; silence stays silence.

    Chances and amounts count whether used or not, so that one option does not shift another.

    Args:
        waveform: The clips of both views.
        draws: `LEVEL_DRAWS` of each clip, even in [0, 1).
        config: How much is changed.
    """
    if any(config.gain_probability):
        gain = 10.0 ** (between(draws[..., 2], config.gain_decibels) / 20.0)
        gain = torch.where(happens(draws[..., 0], config.gain_probability), gain, 1.0)
        waveform = waveform * gain[..., None].to(waveform.dtype)
    if any(config.noise_probability):
        share = 10.0 ** (-between(draws[..., 3], config.noise_snr_decibels) / 20.0)
        share = torch.where(happens(draws[..., 1], config.noise_probability), share, 0.0)
        level = waveform.square().mean(-1, keepdim=True).sqrt() * share[..., None]
        noise = white_noise(below(draws[..., 4:], 1 << 32), waveform.shape[-1])
        waveform = waveform + level.to(waveform.dtype) * noise
    return waveform
