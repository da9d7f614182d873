"""The recipe for a corpus of one's own on GPUs."""

from pathlib import Path

from data_sharding.stream.loader import LoaderConfig
from launch.cluster import ClusterConfig
from launch.run_config import RunConfig
from pretrain.config import BatchConfig, DataConfig, PretrainConfig
from pretrain.ema import EmaConfig
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


def base() -> RunConfig:
    """ViT-S/16 at 224 pixels, a 6-layer BERT, log-mel CNN; 2 nodes x 8 GPUs, bf16.

    A start for about a million triples (100,000 steps of 1,024). It was not run to the end
    yet: no hours and no probe score are claimed.
    """
    return RunConfig(
        run=Path("runs/base"),
        pretrain=PretrainConfig(
            data=DataConfig(
                shards="shards", loader=LoaderConfig(num_workers=7, prefetch_batches=4)
            ),
            backbone=BackboneConfig(
                text=TextConfig(hidden_size=384, num_layers=6, num_heads=6, max_tokens=77),
                image=ImageConfig(
                    size_pixels=224, width=384, num_layers=12, num_heads=6, patch_pixels=16
                ),
                audio=AudioConfig(width=64, embed_dim=1024, clip_seconds=10.0),
                fusion=FusionConfig(embed_dim=512),
            ),
            views=ViewsConfig(
                image=ImageViewConfig(crop_scale=(0.08, 1.0), blur_probability=(1.0, 0.1)),
                audio=AudioViewConfig(crop_seconds=4.0, mixup_ratio=0.3),
            ),
            byol=ByolConfig(heads=HeadConfig(hidden_size=4096, embed_dim=256)),
            ema=EmaConfig(base_tau=0.996),
            optim=OptimConfig(learning_rate=6e-4, weight_decay=0.1),
            batch=BatchConfig(global_samples=1024),
            total_steps=100_000,
            precision="bf16",
            checkpoint_every_steps=2_000,
            keep_checkpoints=5,
            log_every_steps=50,
        ),
        cluster="slurm",
        slurm=ClusterConfig(nodes=2, ranks_per_node=8, gpus_per_node=8, cpus_per_task=8),
    )
