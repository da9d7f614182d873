"""The three encoders and their fusion: what is pretrained, probed and published."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_sharding.batch import TripleBatch
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.logmel import LogMel
from data_sharding.schema import MODALITIES
from data_sharding.stats import CorpusStats
from pretrain.models.audio import AudioCnn, AudioConfig
from pretrain.models.encoded import Encoded
from pretrain.models.fusion import AttentionFusion, FusionConfig
from pretrain.models.image import ImageConfig, build_image_encoder
from pretrain.models.inputs import ModelInputs
from pretrain.models.preprocess import Preprocess, PreprocessConfig, to_unit_range
from pretrain.models.text import BertText, TextConfig

FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """One encoder per modality, and their fusion."""

    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)


@dataclass(frozen=True)
class Embeddings:
    """Pooled encoder outputs per modality, their fusion, and which modalities a row has."""

    text: Float[Tensor, "batch text_dim"]
    image: Float[Tensor, "batch image_dim"]
    audio: Float[Tensor, "batch audio_dim"]
    fused: Float[Tensor, "batch fused_dim"]
    present: Bool[Tensor, "batch 3"]

    def by_name(self) -> dict[str, Tensor]:
        """The four embeddings, modalities first, in the canonical order."""
        return {name: getattr(self, name) for name in (*MODALITIES, "fused")}


def preprocess_for(config: BackboneConfig, stats: CorpusStats) -> Preprocess:
    """The deterministic transform that makes the input of such a backbone."""
    return Preprocess(
        PreprocessConfig(
            size_pixels=config.image.size_pixels,
            max_tokens=config.text.max_tokens,
            clip_samples=round(config.audio.clip_seconds * stats.log_mel.sample_rate_hz),
        )
    )


class Backbone(nn.Module):
    """Text, image and audio encoders and their fusion.

    Args:
        config: Architecture.
        stats: Vocabulary size, normalisation statistics and log-mel settings of the corpus.
        tokenizer_file: The ``tokenizer.json`` that made the vocabulary; saved along.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, config: BackboneConfig, stats: CorpusStats, tokenizer_file: Path) -> None:
        super().__init__()
        self.config = config
        self.stats = stats
        self.tokenizer_file = tokenizer_file
        self.encoders = nn.ModuleDict(
            {
                "text": BertText(config.text, stats.vocab_size),
                "image": build_image_encoder(config.image),
                "audio": AudioCnn(config.audio, stats.log_mel.num_mels),
            }
        )
        self.fusion = AttentionFusion(self._encoder_dims, config.fusion)
        self.log_mel = LogMel(stats.log_mel)
        for name, values in (("image_mean", stats.image_mean), ("image_std", stats.image_std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def embed_dims(self) -> dict[str, int]:
        """Dimension of each embedding, by modality and for ``fused``."""
        return self._encoder_dims | {"fused": self.fusion.embed_dim}

    @property
    def _encoder_dims(self) -> dict[str, int]:
        return {name: int(self.encoders[name].embed_dim) for name in MODALITIES}  # type: ignore[arg-type]

    def embed(self, inputs: ModelInputs) -> dict[str, Encoded]:
        """Each modality through its encoder, in the canonical order; not fused."""
        image = (inputs.image - self.image_mean) / self.image_std
        log_mel = (inputs.log_mel - self.stats.mel_mean) / self.stats.mel_std
        return {
            "text": self.encoders["text"](inputs.token_ids, inputs.token_mask),
            "image": self.encoders["image"](image.to(self._dtype)),
            "audio": self.encoders["audio"](log_mel.to(self._dtype)),
        }

    def fuse(
        self, encoded: Mapping[str, Encoded], available: Bool[Tensor, "batch 3"]
    ) -> Float[Tensor, "batch fused_dim"]:
        """Fusion of the modalities that are available."""
        return self.fusion(encoded, available)

    @torch.no_grad()
    def encode(
        self, batch: TripleBatch, present: Bool[Tensor, "batch 3"] | None = None
    ) -> Embeddings:
        """Embeddings of a preprocessed batch, without gradients, from its first view.

        Args:
            batch: As `preprocess` makes it.
            present: Modalities to use, where that is fewer than the batch has.
        """
        device = self.image_mean.device
        available = batch.present if present is None else batch.present & present
        inputs = ModelInputs(
            token_ids=batch.token_ids.to(device),
            token_mask=batch.token_mask.to(device),
            image=to_unit_range(batch.image[:, 0].to(device)),
            log_mel=self.log_mel(batch.waveform[:, 0].to(device)),
        )
        encoded = self.embed(inputs)
        fused = self.fuse(encoded, available.to(device))
        pooled = {name: value.pooled for name, value in encoded.items()}
        return Embeddings(**pooled, fused=fused, present=available.to(device))

    def preprocess(self) -> Preprocess:
        """The deterministic transform that makes this backbone's input."""
        return preprocess_for(self.config, self.stats)

    def decoder(self) -> Decoder:
        """The decoder of raw samples, with this backbone's tokenizer and sample rate."""
        return Decoder(
            self.tokenizer_file, DecodeConfig(sample_rate_hz=self.stats.log_mel.sample_rate_hz)
        )

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors``, ``config.json``, ``stats.json``, ``tokenizer.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous().cpu() for name, value in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        config = {"format_version": FORMAT_VERSION, "backbone": asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        self.stats.save(folder)
        (folder / "tokenizer.json").write_bytes(self.tokenizer_file.read_bytes())

    @classmethod
    def load(cls, folder: Path) -> "Backbone":
        """The backbone that `save` wrote, in evaluation mode.

        Raises:
            ValueError: the folder holds no backbone, or one of another format or shape.
        """
        backbone = cls._build(folder)
        try:
            backbone.load_state_dict(load_file(folder / "model.safetensors"))
        except (SafetensorError, RuntimeError, FileNotFoundError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{folder / 'model.safetensors'}: cannot be loaded: {reason}"
            ) from error
        return backbone.eval()

    @classmethod
    def random_like(cls, folder: Path, seed: int) -> "Backbone":
        """Fresh weights in the architecture, and with the statistics, of the one at ``folder``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls._build(folder).eval()

    @classmethod
    def _build(cls, folder: Path) -> "Backbone":
        try:
            content: dict[str, Any] = json.loads((folder / "config.json").read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder}: no backbone here: {error}") from error
        if content.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{folder}: backbone format {content.get('format_version')!r}; "
                f"this version of triptych reads format {FORMAT_VERSION}"
            )
        parts = content["backbone"]
        config = BackboneConfig(
            text=TextConfig(**parts["text"]),
            image=ImageConfig(**parts["image"]),
            audio=AudioConfig(**parts["audio"]),
            fusion=FusionConfig(**parts["fusion"]),
        )
        return cls(config, CorpusStats.load(folder), folder / "tokenizer.json")

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype
