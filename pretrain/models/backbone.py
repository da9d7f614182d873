"""The three encoders and their fusion: what is pretrained, probed and published."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
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
from pretrain.models.architecture import BackboneConfig, config_from_parts, saved_parts
from pretrain.models.audio import build_audio_encoder
from pretrain.models.encoded import Encoded
from pretrain.models.fusion import build_fusion
from pretrain.models.image import build_image_encoder
from pretrain.models.inputs import ModelInputs
from pretrain.models.preprocess import Preprocess, PreprocessConfig, to_unit_range
from pretrain.models.recompute import recomputes_itself, recomputing
from pretrain.models.text import Vocabulary, build_text_encoder

FORMAT_VERSION = 1


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
                "text": build_text_encoder(
                    config.text, Vocabulary(stats.vocab_size, tokenizer_file)
                ),
                "image": build_image_encoder(config.image),
                "audio": build_audio_encoder(config.audio, stats.log_mel),
            }
        )
        self.fusion = build_fusion(
            {name: (self._encoder_dims[name], self._token_dims[name]) for name in MODALITIES},
            config.fusion,
        )
        self._recomputed: frozenset[str] = frozenset()
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

    @property
    def _token_dims(self) -> dict[str, int]:
        return {name: int(self.encoders[name].token_dim) for name in MODALITIES}  # type: ignore[arg-type]

    def embed(self, inputs: ModelInputs, names: Collection[str] = MODALITIES) -> dict[str, Encoded]:
        """Each modality that is named through its encoder, in the canonical order; not fused."""
        read = self.read_by_encoders(inputs)
        return {name: self._through(name, *read[name]) for name in MODALITIES if name in names}

    def read_by_encoders(self, inputs: ModelInputs) -> dict[str, tuple[Tensor, ...]]:
        """Arguments of each modality's encoder: normalised with the corpus statistics."""
        image = (inputs.image.float() - self.image_mean) / self.image_std
        log_mel = (inputs.log_mel - self.stats.mel_mean) / self.stats.mel_std
        return {
            "text": (inputs.token_ids, inputs.token_mask),
            "image": (image.to(self._dtype),),
            "audio": (log_mel.to(self._dtype),),
        }

    def fuse(
        self, encoded: Mapping[str, Encoded], available: Bool[Tensor, "batch 3"]
    ) -> Float[Tensor, "batch fused_dim"]:
        """Fusion of the modalities that are available."""
        return self.fusion(encoded, available)

    def inputs(self, batch: TripleBatch) -> ModelInputs:
        """The first view of a preprocessed batch as the encoders read it, on their device."""
        device = self.image_mean.device
        return ModelInputs(
            token_ids=batch.token_ids[:, 0].to(device),
            token_mask=batch.token_mask[:, 0].to(device),
            image=to_unit_range(batch.image[:, 0].to(device)),
            log_mel=self.log_mel(batch.waveform[:, 0].to(device)),
        )

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
        encoded = self.embed(self.inputs(batch))
        fused = self.fuse(encoded, available.to(device))
        pooled = {name: value.pooled for name, value in encoded.items()}
        return Embeddings(**pooled, fused=fused, present=available.to(device))

    def train(self, mode: bool = True) -> "Backbone":
        """Training or evaluation mode; frozen encoders stay in evaluation mode."""
        super().train(mode)
        for name, tower in self.config.towers.items():
            if tower.frozen:
                self.encoders[name].eval()
        return self

    def enable_activation_checkpointing(self) -> None:
        """In training, keep few activations and compute them again in the backward pass.

        transformers' transformers do so block by block, other encoders as a whole. The
        gradients are the same.
        """
        others = (name for name in MODALITIES if not recomputes_itself(self.encoders[name]))
        self._recomputed = frozenset(others)

    def compile_encoders(self) -> None:
        """Compile each encoder in place; the names of weights stay as they are.

        A copy of the backbone is not compiled: call it on the copy as well.
        """
        for encoder in self.encoders.values():
            encoder.compile()

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
        self.snapshot()(folder)

    def snapshot(self) -> Callable[[Path], None]:
        """Copy the weights to host memory; the result is their `save`, at any later time."""
        state = {
            name: value.to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, value in self.state_dict().items()
        }

        def write(folder: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(state, folder / "model.safetensors")
            config = {"format_version": FORMAT_VERSION, "backbone": saved_parts(self.config)}
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
            self.stats.save(folder)
            (folder / "tokenizer.json").write_bytes(self.tokenizer_file.read_bytes())

        return write

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
        config = config_from_parts(content["backbone"])
        return cls(config, CorpusStats.load(folder), folder / "tokenizer.json")

    def _through(self, name: str, *inputs: Tensor) -> Encoded:
        encoder = self.encoders[name]
        if name in self._recomputed and encoder.training and torch.is_grad_enabled():
            return recomputing(encoder, *inputs)
        return encoder(*inputs)

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype
