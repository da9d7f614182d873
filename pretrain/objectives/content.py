"""What an embedding must tell of a view: its words, coarse pixels and coarse log-mel."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn

from pretrain.models import Backbone, Views


@dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """What is reconstructed, and how finely."""

    view: Literal["other", "own"] = "other"
    """`other`: from one view the content of the other. Neither is clean, but with independent
    noise the best guess of the noisy other is the clean mean (Lehtinen et al. 2018, arXiv
    1803.04189): a denoising autoencoder (Vincent et al. 2008) that needs no clean view, and in
    which a masked word has to be inferred. `own`: a plain autoencoder (Ngiam et al. 2011)."""

    image_pixels: int = 16
    """Side of the picture to reconstruct; the input is pooled down to it."""

    audio_mels: int = 16
    """Mel channels of the spectrogram to reconstruct."""

    audio_frames: int = 16
    """Frames of the spectrogram to reconstruct."""

    def __post_init__(self) -> None:
        for name in ("image_pixels", "audio_mels", "audio_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"content.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class Content:
    """What decoders are to tell from each view.

    ``text`` holds token ids, of which those under ``text_mask`` count; ``image`` and ``audio``
    are normalised as the encoders' inputs are, and flat.
    """

    text: Int64[Tensor, "view batch token"]
    text_mask: Bool[Tensor, "view batch token"]
    image: Float[Tensor, "view batch pixel"]
    audio: Float[Tensor, "view batch bin"]


class ContentOfViews(nn.Module):
    """Views -> what is to be reconstructed of them. It has no weights.

    Args:
        backbone: Gives statistics and tokenizer.
        config: Resolutions, and which view.
    """

    special_ids: Tensor
    image_mean: Tensor
    image_std: Tensor

    def __init__(self, backbone: Backbone, config: ContentConfig) -> None:
        super().__init__()
        self._config = config
        self._stats = stats = backbone.stats
        added = Tokenizer.from_file(str(backbone.tokenizer_file)).get_added_tokens_decoder()
        special = sorted(number for number, token in added.items() if token.special)
        self.register_buffer("special_ids", torch.tensor(special), persistent=False)
        for name, values in (("image_mean", stats.image_mean), ("image_std", stats.image_std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers a decoder gives, by modality."""
        config = self._config
        return {
            "text": self._stats.vocab_size,
            "image": 3 * config.image_pixels**2,
            "audio": config.audio_mels * config.audio_frames,
        }

    @torch.no_grad()
    def forward(self, views: Views) -> Content:
        """Content, in float32, for the decoders of each view."""
        config, stats = self._config, self._stats
        image = (views.image.float() - self.image_mean) / self.image_std
        log_mel = (views.log_mel - stats.mel_mean) / stats.mel_std
        parts = (
            views.token_ids,
            # A [MASK] is what the view hides, and [CLS] is everywhere: neither is content.
            views.token_mask & ~torch.isin(views.token_ids, self.special_ids),
            pooled(image, (config.image_pixels, config.image_pixels)),
            pooled(log_mel.unsqueeze(2), (config.audio_mels, config.audio_frames)),
        )
        return Content(*(part.flip(0) if config.view == "other" else part for part in parts))


def pooled(
    maps: Float[Tensor, "view batch channel height width"], size: tuple[int, int]
) -> Float[Tensor, "view batch value"]:
    """Average-pooled to a height and a width, flat, in float32."""
    small = F.adaptive_avg_pool2d(maps.flatten(0, 1).float(), size)
    return small.flatten(1).unflatten(0, maps.shape[:2])
