"""How audio views differ, after BYOL-A (Niizumi et al. 2021, arXiv 2103.06695).

BYOL-A normalises twice: with the data set's statistics before its augmentations, and with the
batch's after them. Here the backbone normalises once, with the corpus's statistics, after the
views. For the crop and the fader that is the same, since both commute with a fixed shift and
scale. Mixup does better without: it adds powers, and dividing a logarithm by its deviation would
turn them into roots of powers. A norm over the batch is left out, because then a clip's view would
depend on which clips share its batch; and in evaluation there is no batch to take it from.
"""

import math
from dataclasses import dataclass, field

from pretrain.views.audio_level import LEVEL_DRAWS, LevelConfig
from pretrain.views.audio_masks import SpectrogramMaskConfig
from pretrain.views.checks import Pair, check_pairs, check_range
from pretrain.views.random import Purpose


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

    @property
    def num_draws(self) -> dict[Purpose, int]:
        """Numbers that the changes of a clip are made of."""
        return {
            "audio_level": LEVEL_DRAWS,
            "audio_chance": 3,
            "audio": 8,
            "audio_masks": self.masks.num_draws,
        }

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
