"""What `benchmarks/step.py` trains: sizes of the towers and heads, and views of random triples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from data_sharding.logmel import LogMelConfig
from data_sharding.stats import CorpusStats
from pretrain.models import (
    AudioConfig,
    Backbone,
    BackboneConfig,
    FusionConfig,
    HeadConfig,
    ImageConfig,
    TextConfig,
    Views,
)
from pretrain.models.audio.config import num_frames
from pretrain.objectives import Byol, ByolConfig, Networks
from pretrain.optim import OptimConfig

STATS = CorpusStats(
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.25, 0.25, 0.25),
    mel_mean=0.0,
    mel_std=1.0,
    vocab_size=8192,
    num_samples=100_000,
    log_mel=LogMelConfig(),
)
TOTAL_STEPS = 1000
BASE_TAU = 0.99
OPTIM = OptimConfig()
LEAST_TEXT = TextConfig(hidden_size=64, num_layers=1, num_heads=1, max_tokens=8)
LEAST_AUDIO = AudioConfig(width=8, embed_dim=64, clip_seconds=0.5)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One model at one batch."""

    name: str
    backbone: BackboneConfig
    heads: HeadConfig
    samples: int
    """Triples of a step."""
    precision: Literal["fp32", "bf16"]
    compiled: bool

    def networks(self) -> tuple[Byol, Networks]:
        """The objective and its two networks, the same at each call."""
        torch.manual_seed(0)
        objective = Byol(
            ByolConfig(heads=self.heads, cross_start_fraction=0.0, cross_ramp_fraction=0.0)
        )
        # No text is read: its file is only a name.
        backbone = Backbone(self.backbone, STATS, Path("tokenizer.json"))
        return objective, objective.networks(backbone)

    def views(self, device: torch.device) -> Views:
        """Two views of random triples that lack nothing."""
        generator = torch.Generator().manual_seed(1)
        pixels, tokens = self.backbone.image.size_pixels, self.backbone.text.max_tokens
        frames = num_frames(self.backbone.audio.clip_seconds, STATS.log_mel)
        shape = (2, self.samples)
        pictures = torch.rand(*shape, 3, pixels, pixels, generator=generator)
        present = torch.ones(self.samples, 3, dtype=torch.bool)
        return Views(
            token_ids=torch.randint(5, STATS.vocab_size, (*shape, tokens), generator=generator),
            token_mask=torch.ones(*shape, tokens, dtype=torch.bool),
            image=pictures.bfloat16() if self.precision == "bf16" else pictures,
            log_mel=torch.randn(*shape, STATS.log_mel.num_mels, frames, generator=generator),
            present=present,
            subset=present.expand(2, -1, -1).clone(),
            complete=True,
        ).to(device)


def vit(name: str, width: int, samples: int) -> Workload:
    """A ViT/16 at 224 pixels beside the least of a text and of an audio tower."""
    return Workload(
        name=f"{name}, batch {samples}",
        backbone=BackboneConfig(
            text=LEAST_TEXT,
            image=ImageConfig(
                size_pixels=224, width=width, num_layers=12, num_heads=width // 64, patch_pixels=16
            ),
            audio=LEAST_AUDIO,
            fusion=FusionConfig(embed_dim=64),
        ),
        heads=HeadConfig(hidden_size=4096, embed_dim=256, norm_samples=samples),
        samples=samples,
        precision="bf16",
        compiled=True,
    )


def trimodal(samples: int) -> Workload:
    """ViT-B/16, BERT-base on 77 tokens, AST-base on ten seconds: the towers of recipe `large`."""
    return Workload(
        name=f"trimodal, batch {samples}",
        backbone=BackboneConfig(
            text=TextConfig(hidden_size=768, num_layers=12, num_heads=12, max_tokens=77),
            image=ImageConfig(
                size_pixels=224, width=768, num_layers=12, num_heads=12, patch_pixels=16
            ),
            audio=AudioConfig(
                encoder="ast", embed_dim=768, num_layers=12, num_heads=12, max_frames=1024,
                clip_seconds=10.0,
            ),
            fusion=FusionConfig(embed_dim=768),
        ),
        heads=HeadConfig(hidden_size=4096, embed_dim=256, norm_samples=samples),
        samples=samples,
        precision="bf16",
        compiled=True,
    )  # fmt: skip


def on_cpu(samples: int) -> Workload:
    """Towers that a CPU takes a few hundred milliseconds for."""
    return Workload(
        name=f"small trimodal, batch {samples}",
        backbone=BackboneConfig(
            text=TextConfig(hidden_size=128, num_layers=2, num_heads=2, max_tokens=32),
            image=ImageConfig(
                size_pixels=96, width=192, num_layers=4, num_heads=3, patch_pixels=16
            ),
            audio=AudioConfig(width=16, embed_dim=128, clip_seconds=1.0),
            fusion=FusionConfig(embed_dim=128),
        ),
        heads=HeadConfig(hidden_size=512, embed_dim=128, norm_samples=samples),
        samples=samples,
        precision="fp32",
        compiled=False,
    )


ON_GPU = (vit("ViT-S", 384, 256), vit("ViT-B", 768, 256), vit("ViT-B", 768, 32), trimodal(64))
