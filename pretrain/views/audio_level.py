"""Changes of a waveform, off by default: loudness and white noise."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pretrain.views.checks import Pair, check_pairs, check_range

DECIBEL_LIMIT = 100.0


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
    waveform: Float[Tensor, " time"],
    view: int,
    config: LevelConfig,
    generator: np.random.Generator,
) -> Float[Tensor, " time"]:
    """Gain, then white noise at a ratio to the clip's own power; silence stays silence.

    Chances and amounts are drawn whether used or not, so that one option does not shift another.
    """
    chance = generator.random(2)
    gain = generator.uniform(*config.gain_decibels)
    ratio = generator.uniform(*config.noise_snr_decibels)
    if chance[0] < config.gain_probability[view]:
        waveform = waveform * 10.0 ** (gain / 20.0)
    if chance[1] < config.noise_probability[view]:
        level = float(waveform.square().mean().sqrt()) * 10.0 ** (-ratio / 20.0)
        noise = generator.standard_normal(len(waveform), dtype=np.float32)
        waveform = waveform + level * torch.from_numpy(noise)
    return waveform
