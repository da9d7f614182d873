"""A run small enough for a test: a few steps a second on one core."""

import json
from collections import defaultdict
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from data_sharding.stream.loader import LoaderConfig
from launch.run_config import RunConfig
from pretrain.checkpoint import CheckpointConfig, CheckpointWriter, OneRank, Progress, Write
from pretrain.config import BatchConfig, DataConfig, PretrainConfig
from pretrain.health import HealthConfig
from pretrain.models import (
    AudioConfig,
    BackboneConfig,
    FusionConfig,
    HeadConfig,
    ImageConfig,
    TextConfig,
)
from pretrain.objectives import ByolConfig


def tiny_backbone() -> BackboneConfig:
    return BackboneConfig(
        text=TextConfig(hidden_size=32, num_layers=1, num_heads=2, max_tokens=16),
        image=ImageConfig(size_pixels=32, width=32, num_layers=1, num_heads=2, patch_pixels=8),
        audio=AudioConfig(width=8, embed_dim=32, clip_seconds=1.0),
        fusion=FusionConfig(embed_dim=32),
    )


def tiny_pretrain(shards: Path, **changes: object) -> PretrainConfig:
    """Layer norm in the heads: the losses do not depend on how a batch is cut."""
    defaults = {
        "data": DataConfig(shards=str(shards), loader=LoaderConfig(num_workers=0)),
        "backbone": tiny_backbone(),
        "byol": ByolConfig(heads=HeadConfig(hidden_size=64, embed_dim=32, norm="layer")),
        "batch": BatchConfig(global_samples=16),
        "total_steps": 40,
        "checkpoint_every_steps": 10,
        "log_every_steps": 1,
        "health": HealthConfig(every_steps=10),
    }
    return PretrainConfig(**defaults | changes)


def write_checkpoint(run: Path, progress: Progress, write: Write) -> Path:
    """A checkpoint of a run that needs no training, from this process alone."""
    writer = CheckpointWriter(run, OneRank(), CheckpointConfig())
    writer.save(progress, [lambda: write])
    [folder] = writer.wait()
    writer.close()
    return folder


def tiny_run(run: Path, shards: Path, ranks: int = 1, **changes: object) -> RunConfig:
    return RunConfig(run=run, pretrain=tiny_pretrain(shards, **changes), ranks=ranks)


def losses(run: Path) -> dict[int, float]:
    """Total loss by step, as a run's metrics tell it."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # The last line of a running job may be half written.
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return {record["step"]: record["loss/total"] for record in records}


def whole_state(folder: Path) -> dict[tuple[str, str, str], Tensor]:
    """All flat tensors of a checkpoint by part, kind and name, whatever ranks wrote them."""
    pieces = defaultdict(list)
    for path in sorted(folder.rglob("rank-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                kind, start, name = key.split("/", 2)
                pieces[path.parent.name, kind, name].append((int(start), file.get_tensor(key)))
    joined = {}
    for key, found in pieces.items():
        if key[1] == "step":
            joined[key] = found[0][1]
        else:
            joined[key] = torch.cat([v.flatten() for _, v in sorted(found, key=lambda p: p[0])])
    return joined
