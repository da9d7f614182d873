"""Normalised log-mel -> one embedding per clip, by the encoder that is named.

This package must not know: how audio views are made, the other modalities.
"""

from data_sharding.logmel import LogMelConfig
from pretrain.models.audio.ast import AstAudio
from pretrain.models.audio.byol_a import ByolAudio
from pretrain.models.audio.cnn import AudioCnn
from pretrain.models.audio.config import AudioConfig
from pretrain.models.audio.gru import AudioGru

AUDIO_ENCODERS = {
    "audio_cnn": AudioCnn,
    "ast": AstAudio,
    "audio_gru": AudioGru,
    "byol_a": ByolAudio,
}
"""By the name in `AudioConfig.encoder`."""


def build_audio_encoder(
    config: AudioConfig, log_mel: LogMelConfig
) -> AudioCnn | AstAudio | AudioGru | ByolAudio:
    """The encoder that ``config.encoder`` names, with fresh weights.

    Raises:
        ValueError: The spectrogram has too few mel channels, or a clip too many frames.
    """
    config.check_spectrogram(log_mel)
    return AUDIO_ENCODERS[config.encoder](config, log_mel.num_mels)


__all__ = ["AUDIO_ENCODERS", "AstAudio", "AudioConfig", "build_audio_encoder"]
