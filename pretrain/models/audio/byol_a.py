"""The encoder of BYOL-A, second version."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.audio.config import AudioConfig
from pretrain.models.encoded import Encoded, Encoder

GROUPS = 8


class ByolAudio(Encoder):
    """Two conv blocks, an MLP over each frame beside them, mean plus maximum over time.

    The MLP reads all channels and frequencies of a frame; its output and its input are laid
    side by side. Group norm in place of the paper's batch norm, for the same features on any
    number of ranks; its dropout is left out, because views are the noise.

    Source: Niizumi et al. 2022, arXiv 2204.07402, section III-B.
    """

    def __init__(self, config: AudioConfig, num_mels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*_block(1, config.width), *_block(config.width, config.width))
        frame_dim = config.width * (num_mels // 4)
        self.mlp = nn.Sequential(
            nn.Linear(frame_dim, config.embed_dim),
            nn.ReLU(),
            nn.Linear(config.embed_dim, config.embed_dim),
            nn.ReLU(),
        )
        self.embed_dim = self.token_dim = frame_dim + config.embed_dim

    def forward(self, log_mel: Float[Tensor, "batch mel frame"]) -> Encoded:
        """Clips of any length from 4 frames on."""
        maps = self.features(log_mel.unsqueeze(1))  # [batch, channel, mel / 4, frame / 4]
        local = maps.flatten(1, 2).transpose(1, 2)  # [batch, frame / 4, channel * mel / 4]
        frames = torch.cat([local, self.mlp(local)], dim=2)
        return Encoded.of_whole(frames.mean(1) + frames.amax(1), frames)


def _block(before: int, after: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, padding=1),
        nn.GroupNorm(GROUPS, after),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
