"""Whole checkpoints of small untrained backbones, and what is published of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from data_sharding.stats import CorpusStats
from eval.release.publish import PublishConfig, publish
from eval.release.reference import check_reference
from pretrain.checkpoint import Checkpoint, Progress, open_checkpoint
from pretrain.models import (
    AudioConfig,
    Backbone,
    BackboneConfig,
    ImageConfig,
    TextConfig,
)
from tiny import write_checkpoint

ALL_EXPORTED = BackboneConfig(
    text=TextConfig(hidden_size=32, num_layers=1, num_heads=2, max_tokens=16),
    image=ImageConfig(size_pixels=32, width=32, num_layers=1, num_heads=2, patch_pixels=8),
    audio=AudioConfig(encoder="ast", embed_dim=32, num_layers=1, num_heads=2, clip_seconds=1.0),
)
SMALL = BackboneConfig(
    text=TextConfig(hidden_size=32, num_layers=1, num_heads=2, max_tokens=16),
    image=ImageConfig(encoder="resnet18", size_pixels=32, width=32),
    audio=AudioConfig(width=8, embed_dim=32, clip_seconds=1.0),
)


def write_run(
    run: Path, shards: Path, seed: int = 99, architecture: BackboneConfig = SMALL
) -> Checkpoint:
    """A run folder with one whole checkpoint of a small backbone; returns the checkpoint."""
    backbone = Backbone(
        architecture,
        CorpusStats.load(shards / "stats"),
        shards / "stats" / "tokenizer.json",
    )
    config = {
        "data": {"shards": str(shards)},
        "batch": {"global_samples": 16},
        "objective": "byol",
        "seed": seed,
        "host": "gpu-node-17",
    }

    def write(folder):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for parameter in backbone.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
        backbone.eval().save(folder / "backbone")
        (folder / "config.json").write_text(json.dumps(config))

    folder = write_checkpoint(run, Progress(step=20, samples_consumed=320), write)
    return open_checkpoint(folder)


@contextmanager
def checking_here() -> Iterator[None]:
    """What is published is checked in this process: a fresh one imports torch for seconds."""

    def check(folder: Path) -> str:
        return f"here, largest difference {check_reference(folder):.1e}"

    with patch("eval.release.publish.check_in_fresh_process", check):
        yield


def publish_small(parent: Path, shards: Path, seed: int = 99, **options: object) -> Path:
    """`ALL_EXPORTED`, published as ``parent/small``."""
    checkpoint = write_run(parent / "run", shards, seed, ALL_EXPORTED)
    defaults = {"licence": "cc-by-4.0", "name": "small", "without_probes": True}
    return publish(checkpoint, parent / "small", PublishConfig(**defaults | options))
