"""Three convolution blocks over the spectrogram."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.audio.config import AudioConfig
from pretrain.models.encoded import Encoded, Encoder


class AudioCnn(Encoder):
    """Three conv blocks; mean plus maximum over time, as BYOL-A pools.

    Group norm in place of BYOL-A's batch norm: the same features whatever else is in the
    batch, on any number of ranks.

    Source: Niizumi et al. 2021, arXiv 2103.06695.
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
