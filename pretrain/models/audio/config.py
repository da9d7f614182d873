"""Choice and sizes of the audio encoder."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from data_sharding.logmel import LogMelConfig
from pretrain.models.tower import TowerConfig

FEWEST_MELS = {"audio_cnn": 16, "audio_gru": 1, "byol_a": 4}
"""What is left of fewer mel channels after the poolings is nothing; ast needs a patch."""


FEWEST_FRAMES = {"audio_cnn": 16, "audio_gru": 4, "byol_a": 4}
"""Likewise of fewer frames."""


def num_frames(seconds: float, log_mel: LogMelConfig) -> int:
    """Frames of a clip's spectrogram, whose windows are centred."""
    return round(seconds * log_mel.sample_rate_hz) // log_mel.hop_samples + 1


@dataclass(frozen=True, kw_only=True)
class AudioConfig(TowerConfig):
    """The audio encoder: its kind, its sizes, and where it starts."""

    modality: ClassVar[str] = "audio"
    warm_encoders: ClassVar[tuple[str, ...]] = ("ast",)

    encoder: Literal["audio_cnn", "ast", "audio_gru", "byol_a"] = "audio_cnn"
    """`audio_cnn`: three convolution blocks and a linear layer (Niizumi et al. 2021). `ast`:
    transformers' ASTModel, mean over its patches (Gong et al. 2021). `audio_gru`: convolutions
    over time, then a GRU (Cho et al. 2014). `byol_a`: the net of BYOL-A's second version
    (Niizumi et al. 2022)."""

    width: int = 32
    """audio_cnn, byol_a: channels of the first block, a multiple of 8 (64 in the papers).
    audio_gru: a quarter of the channels that the GRU reads."""

    embed_dim: int = 256
    """Dimension of the embedding. byol_a: of the part that its linear layers give (2048 in the
    paper); the convolutions' part, `width` times a quarter of the mel channels, lies beside it."""

    num_layers: int = 2
    """ast: transformer blocks. audio_gru: layers."""

    num_heads: int = 4
    """ast: attention heads; divides the embedding's dimension."""

    patch_bins: int = 16
    """ast: side of a patch, in mel channels and in frames."""

    patch_stride: int = 10
    """ast: distance between two patches, in mel channels and in frames."""

    max_frames: int = 304
    """ast: frames that have a position; of a longer clip only the start is read. A shorter clip
    has fewer patches and the first positions. 304 holds 3 seconds at 10 ms."""

    clip_seconds: float = 3.0
    """Length of a clip in evaluation; what pretraining crops is set by the views."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "embed_dim", "num_layers", "num_heads", "patch_stride"):
            self.require(getattr(self, name) >= 1, f"{name} must be positive")
        self.require(self.width % 8 == 0, f"width must be a multiple of 8, got {self.width}")
        self.require(
            self.encoder != "ast" or self.embed_dim % self.num_heads == 0,
            f"embed_dim {self.embed_dim} is not a multiple of audio.num_heads {self.num_heads}",
        )
        self.require(
            1 <= self.patch_bins <= self.max_frames,
            f"patch_bins must be from 1 to audio.max_frames {self.max_frames}, got "
            f"{self.patch_bins}",
        )

    def check_spectrogram(self, log_mel: LogMelConfig) -> None:
        """Whether a corpus' spectrograms fit the encoder.

        Raises:
            ValueError: Too few mel channels, or a clip of evaluation has too many frames.
        """
        fewest = FEWEST_MELS.get(self.encoder, self.patch_bins)
        self.require(
            log_mel.num_mels >= fewest,
            f"encoder {self.encoder} needs {fewest} mel channels, the statistics have "
            f"{log_mel.num_mels}; make them anew with a larger log_mel.num_mels",
        )
        self.check_frames(self.clip_seconds, log_mel, "audio.clip_seconds")
        frames = num_frames(self.clip_seconds, log_mel)
        self.require(
            self.encoder != "ast" or frames <= self.max_frames,
            f"max_frames {self.max_frames} is less than the {frames} frames of "
            f"audio.clip_seconds {self.clip_seconds}",
        )

    def check_frames(self, seconds: float, log_mel: LogMelConfig, option: str) -> None:
        """Whether a clip is long enough.

        Raises:
            ValueError: it is not; ``option`` is what set its length.
        """
        fewest = FEWEST_FRAMES.get(self.encoder, self.patch_bins)
        half_window = log_mel.n_fft // 2
        long_enough = round(seconds * log_mel.sample_rate_hz) > half_window
        if num_frames(seconds, log_mel) < fewest or not long_enough:
            least = max((fewest - 1) * log_mel.hop_samples, half_window + 1)
            raise ValueError(
                f"{option} {seconds} is too short for the encoder {self.encoder}: it needs "
                f"{fewest} frames and half a window, {least / log_mel.sample_rate_hz:.3f} s"
            )
