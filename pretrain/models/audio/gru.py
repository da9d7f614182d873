"""Convolutions over time and a GRU over what they give."""

from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.audio.config import AudioConfig
from pretrain.models.encoded import Encoded, Encoder

GROUPS = 8


class AudioGru(Encoder):
    """Two convolutions that quarter the frame rate, a GRU, mean plus maximum over time.

    Source: Choi et al. 2016, arXiv 1609.04243, for convolutions before a GRU; Cho et al. 2014,
    arXiv 1406.1078, for the GRU.
    """

    def __init__(self, config: AudioConfig, num_mels: int) -> None:
        super().__init__()
        self.embed_dim = self.token_dim = config.embed_dim
        channels = 4 * config.width
        self.front = nn.Sequential(
            nn.Conv1d(num_mels, channels, 5, stride=2, padding=2),
            nn.GroupNorm(GROUPS, channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2),
            nn.GroupNorm(GROUPS, channels),
            nn.ReLU(),
        )
        self.gru = nn.GRU(channels, config.embed_dim, config.num_layers, batch_first=True)

    def forward(self, log_mel: Float[Tensor, "batch mel frame"]) -> Encoded:
        """Clips of any length."""
        states, _ = self.gru(self.front(log_mel).transpose(1, 2))  # [batch, frame / 4, embed]
        return Encoded.of_whole(states.mean(1) + states.amax(1), states)
