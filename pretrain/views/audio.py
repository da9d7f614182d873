"""Audio views on log-mels, after BYOL-A (Niizumi et al. 2021, arXiv 2103.06695)."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pretrain.views.checks import check_range


@dataclass(frozen=True, kw_only=True)
class AudioViewConfig:
    """Random crop in time, mixup, resize crop and linear fader.

    A shift along the frequency axis changes pitch, which is prosody: ``resize_frequency``
    defaults to little.
    """

    crop_seconds: float = 1.28
    """Length of the clip cut from the recording; shorter recordings are padded with silence."""

    mixup_ratio: float = 0.2
    """Largest share of another clip mixed in (log-mixup-exp); 0 is off."""

    mixup_group: int = 8
    """The other clip comes from the same group of so many consecutive samples, so that no
    rank or restart changes it. Must divide the number of samples each rank handles."""

    resize_time: tuple[float, float] = (0.6, 1.0)
    """Share of the frames that a resize crop keeps."""

    resize_frequency: tuple[float, float] = (0.9, 1.0)
    """Share of the mel bands that a resize crop keeps."""

    fader_nepers: float = 1.0
    """Largest gain of the linear fader at either end of the clip, in nats of the log-mel."""

    def __post_init__(self) -> None:
        if not self.crop_seconds > 0.0:
            raise ValueError(f"views.audio.crop_seconds must be positive, got {self.crop_seconds}")
        if self.mixup_group < 1:
            raise ValueError(f"views.audio.mixup_group must be positive, got {self.mixup_group}")
        if not 0.0 <= self.mixup_ratio < 1.0:
            raise ValueError(f"views.audio.mixup_ratio must be in [0, 1), got {self.mixup_ratio}")
        check_range("audio.resize_time", self.resize_time, 0.05, 1.0)
        check_range("audio.resize_frequency", self.resize_frequency, 0.05, 1.0)


def mixup(
    log_mel: Float[Tensor, "batch mel frame"],
    group: int,
    ratios: Float[Tensor, " batch"],
    shifts: list[int],
) -> Float[Tensor, "batch mel frame"]:
    """``log((1 - r) exp(a) + r exp(b))`` with a partner b from a's own group.

    Args:
        log_mel: Clips, the rows of a group consecutive.
        group: Rows per group; divides the batch.
        ratios: r of each row, in [0, 1).
        shifts: Each row's partner lies so many rows on, in its group, in [0, group).
    """
    batch = log_mel.shape[0]
    partners = [row - row % group + (row % group + shifts[row]) % group for row in range(batch)]
    r = ratios.view(-1, 1, 1)
    # logaddexp is exact where one of the two is silence; log(0) of a ratio of 0 is -inf.
    return torch.logaddexp(log_mel + torch.log1p(-r), log_mel[partners] + torch.log(r))


def resize_crop(
    log_mel: Float[Tensor, "mel frame"],
    bands: tuple[int, int],
    frames: tuple[int, int],
) -> Float[Tensor, "mel frame"]:
    """The part ``[start, stop)`` of bands and frames, bilinearly back to the full size."""
    part = log_mel[bands[0] : bands[1], frames[0] : frames[1]]
    shape = (log_mel.shape[0], log_mel.shape[1])
    return F.interpolate(part[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]


def draw_span(
    length: int, share: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int]:
    """A random ``[start, stop)`` that covers a random share of ``length``."""
    size = max(1, round(length * generator.uniform(*share)))
    start = int(generator.integers(length - size + 1))
    return start, start + size


def augment_clip(
    log_mel: Float[Tensor, "mel frame"],
    config: AudioViewConfig,
    generator: np.random.Generator,
) -> Float[Tensor, "mel frame"]:
    """Resize crop, then a gain that changes linearly over the clip."""
    bands = draw_span(log_mel.shape[0], config.resize_frequency, generator)
    frames = draw_span(log_mel.shape[1], config.resize_time, generator)
    start, stop = generator.uniform(-config.fader_nepers, config.fader_nepers, size=2)
    fader = torch.linspace(start, stop, log_mel.shape[1])
    return resize_crop(log_mel, bands, frames) + fader
