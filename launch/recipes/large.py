"""The recipe for ten million triples and more on four nodes."""

from pathlib import Path

from data_sharding.stream.loader import LoaderConfig
from launch.cluster import ClusterConfig
from launch.run_config import RunConfig
from pretrain.config import BatchConfig, DataConfig, PretrainConfig
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
from pretrain.views import AudioViewConfig, ImageViewConfig, ViewsConfig


def large() -> RunConfig:
    """ViT-B/16 at 224 pixels, BERT-base, AST-base; 4 nodes x 8 GPUs, bf16.

    For ten million triples and more (100,000 steps of 4,096). It was not run yet: no hours and no
    probe score are claimed. ``triptych plan large`` tells what it needs, and from which
    assumptions.
    """
    return RunConfig(
        run=Path("runs/large"),
        pretrain=PretrainConfig(
            data=DataConfig(
                shards="shards",
                loader=LoaderConfig(num_workers=12, prefetch_batches=24),
            ),
            backbone=BackboneConfig(
                text=TextConfig(hidden_size=768, num_layers=12, num_heads=12, max_tokens=77),
                image=ImageConfig(
                    size_pixels=224, width=768, num_layers=12, num_heads=12, patch_pixels=16,
                    fixed_patch_projection=True,
                ),
                audio=AudioConfig(
                    encoder="ast", embed_dim=768, num_layers=12, num_heads=12, max_frames=1024,
                    clip_seconds=10.0,
                ),
                fusion=FusionConfig(embed_dim=768),
            ),
            views=ViewsConfig(
                image=ImageViewConfig(crop_scale=(0.08, 1.0), blur_probability=(1.0, 0.1)),
                audio=AudioViewConfig(crop_seconds=4.0, mixup_ratio=0.3),
            ),
            byol=ByolConfig(heads=HeadConfig(hidden_size=4096, embed_dim=256)),
            optim=OptimConfig(learning_rate=1.2e-3, weight_decay=0.1, max_gradient_norm=1.0),
            batch=BatchConfig(global_samples=4096),
            total_steps=100_000,
            precision="bf16",
            zero_stage=1,
            checkpoint_every_steps=2_000,
            keep_checkpoints=5,
            log_every_steps=50,
        ),
        cluster="slurm",
        slurm=ClusterConfig(
            nodes=4,
            ranks_per_node=8,
            gpus_per_node=8,
            cpus_per_task=14,
            walltime_minutes=24 * 60,
            save_seconds=300,
        ),
    )  # fmt: skip
