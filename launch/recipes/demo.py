"""The recipe of `triptych demo`."""

from pathlib import Path

from data_sharding.loader import LoaderConfig
from data_sharding.order import OrderConfig
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


def demo() -> RunConfig:
    """ResNet-18 of an eighth of the width at 64 pixels, 2-layer BERT, log-mel CNN; 2 CPU ranks."""
    return RunConfig(
        run=Path("runs/demo"),
        pretrain=PretrainConfig(
            data=DataConfig(
                shards=Path("shards"),
                loader=LoaderConfig(
                    num_workers=1,
                    order=OrderConfig(block_samples=4, window_blocks=16, lanes=8),
                ),
            ),
            backbone=BackboneConfig(
                text=TextConfig(hidden_size=128, num_layers=2, num_heads=4, max_tokens=24),
                image=ImageConfig(encoder="resnet18", size_pixels=64, width=128),
                audio=AudioConfig(width=16, embed_dim=256, clip_seconds=2.5),
                fusion=FusionConfig(embed_dim=256),
            ),
            views=ViewsConfig(
                image=ImageViewConfig(
                    crop_scale=(0.3, 1.0),
                    jitter_probability=0.3,
                    grayscale_probability=0.05,
                    solarize_probability=(0.0, 0.0),
                ),
                audio=AudioViewConfig(crop_seconds=1.28),
            ),
            byol=ByolConfig(heads=HeadConfig(hidden_size=512, embed_dim=128)),
            ema=EmaConfig(base_tau=0.99),
            optim=OptimConfig(learning_rate=1e-3),
            batch=BatchConfig(global_samples=64),
            total_steps=1000,
            checkpoint_every_steps=500,
            log_every_steps=20,
        ),
        ranks=2,
    )
