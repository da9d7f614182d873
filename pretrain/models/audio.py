"""Normalised log-mel -> one embedding per clip."""

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.encoded import Encoded


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """A convolutional log-mel encoder after BYOL-A (Niizumi et al. 2021, arXiv 2103.06695)."""

    encoder: Literal["audio_cnn"] = "audio_cnn"
    """`audio_cnn`: three 3x3 conv, norm, ReLU, max-pool blocks, then a linear layer."""

    width: int = 32
    """Channels of the first block; doubled in each of the next two."""

    embed_dim: int = 256
    """Dimension of the embedding."""

    clip_seconds: float = 3.0
    """Length of a clip in evaluation; what pretraining crops is set by the views."""

    def __post_init__(self) -> None:
        if self.width % 8:
            raise ValueError(f"audio.width must be a multiple of 8, got {self.width}")


class AudioCnn(nn.Module):
    """Three conv blocks; mean plus maximum over time, as BYOL-A pools.

    Group norm in place of BYOL-A's batch norm: the same features whatever else is in the
    batch, on any number of ranks.
    """

    def __init__(self, config: AudioConfig, num_mels: int) -> None:
        super().__init__()
        self.embed_dim = config.embed_dim
        channels = [1, config.width, 2 * config.width, 4 * config.width]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(
                        channels[i], channels[i + 1], 3, stride=2 if i == 0 else 1, padding=1
                    ),
                    nn.GroupNorm(8, channels[i + 1]),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for i in range(3)
            )
        )
        self.token_dim = channels[-1] * (num_mels // 16)
        self.project = nn.Linear(self.token_dim, config.embed_dim)

    def forward(self, log_mel: Float[Tensor, "batch mel frame"]) -> Encoded:
        """Clips of any length from 16 frames on."""
        maps = self.blocks(log_mel.unsqueeze(1))  # [batch, channel, mel / 16, frame / 16]
        pooled = maps.mean(-1) + maps.amax(-1)  # [batch, channel, mel / 16]
        frames = maps.flatten(1, 2).transpose(1, 2)  # [batch, frame / 16, channel * mel / 16]
        return Encoded.of_whole(F.relu(self.project(pooled.flatten(1))), frames)
