"""Backbones of a few thousand weights, one for each encoder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_sharding.stats import CorpusStats
from pretrain.models import AudioConfig, Backbone, ImageConfig, ModelInputs, TextConfig
from tiny import tiny_backbone

TINY = {
    "bert": TextConfig(hidden_size=16, num_layers=1, num_heads=2, max_tokens=12),
    "lstm": TextConfig(encoder="lstm", hidden_size=16, num_layers=2, max_tokens=12),
    "textcnn": TextConfig(encoder="textcnn", hidden_size=16, num_filters=5, max_tokens=12),
    "han": TextConfig(
        encoder="han", hidden_size=16, max_tokens=12, max_sentences=3, max_sentence_tokens=5
    ),
    "vit": ImageConfig(size_pixels=32, width=16, num_layers=2, num_heads=2, patch_pixels=16),
    "resnet18": ImageConfig(encoder="resnet18", size_pixels=32, width=32),
    "resnet50": ImageConfig(encoder="resnet50", size_pixels=32, width=64),
    "vgg16": ImageConfig(encoder="vgg16", size_pixels=32, width=32),
    "small_cnn": ImageConfig(encoder="small_cnn", size_pixels=32, width=32),
    "audio_cnn": AudioConfig(width=8, embed_dim=16, clip_seconds=0.6),
    "ast": AudioConfig(
        encoder="ast", embed_dim=16, num_layers=2, num_heads=2, max_frames=64, clip_seconds=0.6
    ),
    "audio_gru": AudioConfig(encoder="audio_gru", width=8, embed_dim=16, clip_seconds=0.6),
    "byol_a": AudioConfig(encoder="byol_a", width=8, embed_dim=16, clip_seconds=0.6),
}
"""By the encoder's name; `tests/pretrain/models` asks that none is left out."""


@pytest.fixture(scope="session")
def stats_folder(sample_shards) -> Path:
    return sample_shards / "stats"


@pytest.fixture(scope="session")
def build(stats_folder):
    """A backbone with the named encoders, always from the same random weights."""

    def build(*names: str, **changes) -> Backbone:
        stats = CorpusStats.load(stats_folder)
        towers = {TINY[name].modality: replace(TINY[name], **changes) for name in names}
        torch.manual_seed(0)
        config = replace(tiny_backbone(), **towers)
        return Backbone(config, stats, stats_folder / "tokenizer.json")

    return build


@pytest.fixture
def inputs():
    """Five rows: texts of 12, 7, 1 and no tokens, and one more; pictures; 0.5 second clips."""

    def inputs(frames: int = 51) -> ModelInputs:
        generator = torch.Generator().manual_seed(1)
        lengths = torch.tensor([12, 7, 1, 0, 9])
        return ModelInputs(
            token_ids=torch.randint(5, 90, (5, 12), generator=generator),
            token_mask=torch.arange(12) < lengths.unsqueeze(1),
            image=torch.rand(5, 3, 32, 32, generator=generator),
            log_mel=torch.randn(5, 64, frames, generator=generator),
        )

    return inputs
