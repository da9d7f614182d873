"""Audio views on log-mels, after BYOL-A (Niizumi et al. 2021, arXiv 2103.06695).

BYOL-A normalises twice: with the data set's statistics before its augmentations, and with the
batch's after them. Here the backbone normalises once, with the corpus's statistics, after the
views. For the crop and the fader that is the same, since both commute with a fixed shift and
scale. Mixup does better without: it adds powers, and dividing a logarithm by its deviation would
turn them into roots of powers. A norm over the batch is left out, because then a clip's view would
depend on which clips share its batch; and in evaluation there is no batch to take it from.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from pretrain.views.audio_level import LevelConfig
from pretrain.views.audio_masks import SpectrogramMaskConfig
from pretrain.views.checks import Pair, check_pairs, check_range


@dataclass(frozen=True, kw_only=True)
class AudioViewConfig:
    """Random crop in time, gain, noise, mixup, resize crop, linear fader, masks, in this order.

    A shift along the frequency axis changes pitch, which is prosody: ``resize_frequency``
    defaults to little (BYOL-A: 0.6 to 1.5 on both axes).
    """

    crop_seconds: float = 1.28
    """Length of the clip cut from the recording; shorter recordings are padded with silence."""

    mixup_probability: Pair = (1.0, 1.0)
    """Chance that another clip is mixed in, in the first and the second view."""

    mixup_ratio: float = 0.2
    """Largest share of another clip mixed in (log-mixup-exp); 0 is off."""

    mixup_group: int = 8
    """The other clip comes from the same group of so many consecutive samples, so that no
    rank or restart changes it. Must divide the samples that a rank takes at a time."""

    resize_probability: Pair = (1.0, 1.0)
    """Chance of a resize crop in the first and the second view."""

    resize_time: tuple[float, float] = (0.6, 1.0)
    """Share of the frames that a resize crop keeps; above 1 the clip shrinks, and the room
    around it is filled with its mean."""

    resize_frequency: tuple[float, float] = (0.9, 1.0)
    """Share of the mel bands that a resize crop keeps; above 1 as for the frames."""

    fader_probability: Pair = (1.0, 1.0)
    """Chance of the linear fader in the first and the second view."""

    fader_nepers: float = 1.0
    """Largest gain of the linear fader at either end of the clip, in nats of the log-mel."""

    level: LevelConfig = field(default_factory=LevelConfig)
    """Gain and noise; off by default."""

    masks: SpectrogramMaskConfig = field(default_factory=SpectrogramMaskConfig)
    """Masked bands and frames; off by default."""

    def __post_init__(self) -> None:
        if not 0.0 < self.crop_seconds < math.inf:
            raise ValueError(
                f"views.audio.crop_seconds must be finite and positive, got {self.crop_seconds}"
            )
        if self.mixup_group < 1:
            raise ValueError(f"views.audio.mixup_group must be positive, got {self.mixup_group}")
        if not 0.0 <= self.mixup_ratio < 1.0:
            raise ValueError(f"views.audio.mixup_ratio must be in [0, 1), got {self.mixup_ratio}")
        if not 0.0 <= self.fader_nepers < math.inf:
            raise ValueError(
                f"views.audio.fader_nepers must be finite and not negative, got {self.fader_nepers}"
            )
        check_range("audio.resize_time", self.resize_time, 0.05, 2.0)
        check_range("audio.resize_frequency", self.resize_frequency, 0.05, 2.0)
        names = ("mixup_probability", "resize_probability", "fader_probability")
        check_pairs(self, "audio", names)

    def chances(self, view: int) -> tuple[float, float, float]:
        """Of mixup, resize crop and fader in a view."""
        return (
            self.mixup_probability[view],
            self.resize_probability[view],
            self.fader_probability[view],
        )

    def check_share(self, num_samples: int) -> None:
        """Whether mixup's groups fill the consecutive samples that a rank has of a global batch.

        Raises:
            ValueError: they do not.
        """
        if self.mixup_ratio and num_samples % self.mixup_group:
            raise ValueError(
                f"views.audio.mixup_group {self.mixup_group} does not divide the {num_samples} "
                "samples that a rank takes at a time; choose a divisor, or set "
                "views.audio.mixup_ratio to 0"
            )


def mixup(
    log_mel: Float[Tensor, "batch mel frame"],
    group: int,
    ratios: Float[Tensor, " batch"],
    shifts: list[int],
) -> Float[Tensor, "batch mel frame"]:
    """``log((1 - r) exp(a) + r exp(b))`` with a partner b from a's own group.

    BYOL-A draws b from a queue of past inputs; a queue depends on the worker and on where a run
    was resumed, a group of slots does not.

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
    """The part ``[start, stop)`` of bands and frames, bilinearly back to the full size.

    What a part has outside the clip is filled with the clip's mean.
    """
    shape = (log_mel.shape[0], log_mel.shape[1])
    outside = [max(0, -start) for start in (frames[0], bands[0])]
    beyond = [max(0, frames[1] - shape[1]), max(0, bands[1] - shape[0])]
    if any(outside + beyond):
        room = (outside[0], beyond[0], outside[1], beyond[1])
        log_mel = F.pad(log_mel, room, value=float(log_mel.mean()))
    rows = slice(bands[0] + outside[1], bands[1] + outside[1])
    columns = slice(frames[0] + outside[0], frames[1] + outside[0])
    part = log_mel[rows, columns]
    return F.interpolate(part[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]


def draw_span(
    length: int, share: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int]:
    """A random ``[start, stop)`` that covers a random share of ``length``, or is covered by it."""
    size = max(1, round(length * generator.uniform(*share)))
    offset = int(generator.integers(abs(length - size) + 1))
    start = offset if size <= length else -offset
    return start, start + size


def augment_clip(
    log_mel: Float[Tensor, "mel frame"],
    config: AudioViewConfig,
    chances: tuple[bool, bool],
    generator: np.random.Generator,
) -> Float[Tensor, "mel frame"]:
    """Resize crop, then a gain that changes linearly over the clip.

    Args:
        log_mel: A clip.
        config: How much is changed.
        chances: Whether the crop and the fader are applied; both are drawn in any case.
        generator: Of the clip's view.
    """
    bands = draw_span(log_mel.shape[0], config.resize_frequency, generator)
    frames = draw_span(log_mel.shape[1], config.resize_time, generator)
    start, stop = generator.uniform(-config.fader_nepers, config.fader_nepers, size=2)
    if chances[0]:
        log_mel = resize_crop(log_mel, bands, frames)
    if chances[1]:
        log_mel = log_mel + torch.linspace(start, stop, log_mel.shape[1])
    return log_mel
