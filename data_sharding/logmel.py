"""Waveform -> log-mel spectrogram, on any device."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

POWER_FLOOR = 1e-6
"""Added to the mel power before the logarithm: silence becomes log(1e-6) = -13.8."""


@dataclass(frozen=True, kw_only=True)
class LogMelConfig:
    """Geometry of the log-mel spectrogram."""

    sample_rate_hz: int = 16_000
    """Rate of the waveforms, which the decoder resamples to."""

    n_fft: int = 1024
    """Samples in one Fourier window."""

    hop_samples: int = 160
    """Samples between two frames (160 = 10 ms at 16 kHz)."""

    num_mels: int = 64
    """Mel channels."""

    f_min_hz: float = 60.0
    """Lower edge of the lowest mel channel."""

    f_max_hz: float = 7_800.0
    """Upper edge of the highest mel channel; at most half the sample rate."""

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "n_fft", "hop_samples", "num_mels"):
            if getattr(self, name) < 1:
                raise ValueError(f"log_mel.{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"log_mel needs 0 <= f_min_hz < f_max_hz <= {self.sample_rate_hz / 2} (half the "
                f"sample rate), got f_min_hz={self.f_min_hz}, f_max_hz={self.f_max_hz}"
            )


class LogMel(nn.Module):
    """Natural logarithm of the mel power, ``log(mel + 1e-6)``.

    A clip of ``time`` samples has ``time // hop_samples + 1`` frames (windows are centred and the
    clip is reflected at its ends, so it needs more than ``n_fft // 2`` samples).
    """

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = MelSpectrogram(
            sample_rate=config.sample_rate_hz,
            n_fft=config.n_fft,
            hop_length=config.hop_samples,
            n_mels=config.num_mels,
            f_min=config.f_min_hz,
            f_max=config.f_max_hz,
        )

    def forward(self, waveform: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch mel frame"]:
        """Turns waveforms in [-1, 1] into log-mel spectrograms.

        The same as ``log(self.mel(waveform) + 1e-6)``, which torch.compile cannot trace.
        """
        spectrum = torch.stft(
            waveform.reshape(-1, waveform.shape[-1]),
            self.config.n_fft,
            self.config.hop_samples,
            window=self.get_buffer("mel.spectrogram.window"),
            return_complex=True,
        )
        power = spectrum.abs().square()  # [clip, bin, frame]
        bank = self.get_buffer("mel.mel_scale.fb")  # [bin, mel]
        mel = torch.matmul(power.transpose(-1, -2), bank).transpose(-1, -2)
        return torch.log(mel + POWER_FLOOR).view(*waveform.shape[:-1], *mel.shape[-2:])
