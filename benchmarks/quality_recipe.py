"""The recipe that every arm of the quality benchmark shares, and what makes each arm another."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from data_sharding.stream.loader import LoaderConfig
from data_sharding.stream.order import OrderConfig
from launch.run_config import RunConfig
from pretrain.config import BatchConfig, DataConfig, PretrainConfig
from pretrain.ema import EmaConfig
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
from pretrain.optim import OptimConfig
from pretrain.views import (
    AudioViewConfig,
    ImageViewConfig,
    SubsetConfig,
    TextViewConfig,
    ViewsConfig,
)

VOCAB_SIZE = 4_000
"""Twelve languages and tweets; the embedding table is half of all parameters at 8,000."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is trained: one objective, with its weights, from some seeds."""

    objective: Literal["byol", "autoencoder", "adversarial"] = "byol"
    byol: Mapping[str, float] = field(default_factory=dict)
    """Fields of `ByolConfig` that differ from the recipe's."""
    seeds: int = 1
    """Pretraining seeds: 0, 1, ..."""


ARMS: dict[str, Arm] = {
    "full": Arm(seeds=3),
    "intra": Arm(byol={"cross_weight": 0.0, "fused_weight": 0.0}),
    "cross": Arm(byol={"intra_weight": 0.0, "fused_weight": 0.0, "cross_start_fraction": 0.0}),
    "autoencoder": Arm(objective="autoencoder"),
    "adversarial": Arm(objective="adversarial"),
}
"""Trained arms in the order in which they are trained, the one that decides first."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long an arm trains."""

    steps: int = 700
    """Optimizer steps of each arm."""

    batch: int = 128
    """Samples of one step."""

    ranks: int = 2
    """Processes that train; they share the batch."""


def quality_recipe() -> PretrainConfig:
    """3-layer ViT at 64 pixels, 1-layer BERT, log-mel CNN; 700 steps of 128 in ten minutes."""
    return PretrainConfig(
        data=DataConfig(
            shards="blend",
            loader=LoaderConfig(
                num_workers=1, order=OrderConfig(block_samples=4, window_blocks=128, lanes=4)
            ),
        ),
        backbone=BackboneConfig(
            text=TextConfig(hidden_size=128, num_layers=1, num_heads=4, max_tokens=24),
            image=ImageConfig(size_pixels=64, width=96, num_layers=3, num_heads=4, patch_pixels=8),
            audio=AudioConfig(width=16, embed_dim=128, clip_seconds=2.0),
            fusion=FusionConfig(fusion="concat", embed_dim=128, reduce_dim=128),
        ),
        views=ViewsConfig(
            image=ImageViewConfig(
                crop_scale=(0.2, 1.0),
                jitter_probability=0.5,
                grayscale_probability=0.1,
                solarize_probability=(0.0, 0.0),
            ),
            audio=AudioViewConfig(crop_seconds=0.96),
            text=TextViewConfig(mask_probability=(0.3, 0.3)),
            subset=SubsetConfig(text=0.3, image=0.7, audio=0.5),
        ),
        byol=ByolConfig(heads=HeadConfig(hidden_size=512, embed_dim=128)),
        ema=EmaConfig(base_tau=0.99),
        optim=OptimConfig(learning_rate=1.5e-3),
        # An arm that does badly is a column of the table, not a reason to stop.
        health=HealthConfig(on_collapse="warn"),
        log_every_steps=20,
        keep_checkpoints=2,
    )


def arm_config(arm: Arm, seed: int, blend: Path, run: Path, length: Length) -> RunConfig:
    """The run of one arm and seed; only objective, seed and folders differ between two of them."""
    recipe = quality_recipe()
    return RunConfig(
        run=run,
        ranks=length.ranks,
        pretrain=replace(
            recipe,
            data=replace(recipe.data, shards=str(blend)),
            objective=arm.objective,
            byol=replace(recipe.byol, **arm.byol),
            batch=BatchConfig(global_samples=length.batch),
            total_steps=length.steps,
            checkpoint_every_steps=max(1, length.steps // 8),
            seed=seed,
        ),
    )
