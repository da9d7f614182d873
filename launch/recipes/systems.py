"""`system1` ... `system5`: the five published systems that this project grew from.

Each is one choice of encoders, fusion and objective in the same trainer, at a size that two CPU
cores train in half an hour: 64 pixels, narrow towers. README's Results has them in one table.
"""

from dataclasses import replace
from pathlib import Path

from data_sharding.stream.loader import LoaderConfig
from launch.run_config import RunConfig
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
from pretrain.optim import OptimConfig
from pretrain.views import AudioViewConfig, ImageViewConfig, SubsetConfig, ViewsConfig

BERT = TextConfig(encoder="bert", hidden_size=128, num_layers=2, num_heads=4, max_tokens=32)
SPECTROGRAM_CNN = AudioConfig(encoder="audio_cnn", width=16, embed_dim=128, clip_seconds=2.5)


def system1() -> RunConfig:
    """Multimodal BYOL for sentiment: LSTM, ResNet-50, spectrogram CNN, attention fusion.

    The text is its last hidden state, the picture its pooled features (a quarter of the
    paper's width), the sound three convolution blocks of 32, 64 and 128 channels and a linear
    layer of 512; ``alpha_m = softmax_m(w_m^T h_m)`` weighs them. 2 CPU ranks, half an hour.
    """
    return _run(
        "system1",
        BackboneConfig(
            text=TextConfig(encoder="lstm", hidden_size=128, num_layers=1, max_tokens=32),
            image=ImageConfig(encoder="resnet50", size_pixels=64, width=512),
            audio=AudioConfig(encoder="audio_cnn", width=32, embed_dim=512, clip_seconds=2.5),
            fusion=FusionConfig(fusion="attention", embed_dim=256),
        ),
    )


def system2() -> RunConfig:
    """Deep sentiment classifiers: hierarchical attention over text, a plain CNN for pictures.

    ``--pretrain.backbone.text.encoder lstm|textcnn|bert`` are its other classifiers of text,
    ``--pretrain.optim.optimizer sgd|adagrad`` its other optimizers. 2 CPU ranks, half an hour.
    """
    return _run(
        "system2",
        BackboneConfig(
            text=TextConfig(encoder="han", hidden_size=128, max_tokens=32),
            image=ImageConfig(encoder="small_cnn", size_pixels=64, width=128),
            audio=SPECTROGRAM_CNN,
            fusion=FusionConfig(fusion="sum", embed_dim=128),
        ),
    )


def system3() -> RunConfig:
    """Multimodal autoencoder with correlated codes, and a graph over the modalities as fusion.

    ``--pretrain.objective adversarial`` aligns the codes by a game instead, and
    ``--pretrain.backbone.fusion.fusion co_attention`` lets the modalities read each other's
    tokens. Retrieval between modalities is the test of alignment. 2 CPU ranks, half an hour.
    """
    run = _run(
        "system3",
        BackboneConfig(
            text=BERT,
            image=ImageConfig(
                encoder="vit", size_pixels=64, width=96, num_layers=3, num_heads=4, patch_pixels=8
            ),
            audio=SPECTROGRAM_CNN,
            fusion=FusionConfig(fusion="graph", embed_dim=128, num_layers=2),
        ),
    )
    return replace(run, pretrain=replace(run.pretrain, objective="autoencoder"))


def system4() -> RunConfig:
    """Text-image sentiment: BERT and a ResNet, self- and cross-attention over their tokens.

    The published trouble was a classifier that says the majority class to everything, cured
    by a lower learning rate and a smaller model: so these are small. 2 CPU ranks, half an hour.
    """
    return _run(
        "system4",
        BackboneConfig(
            text=BERT,
            image=ImageConfig(encoder="resnet18", size_pixels=64, width=128),
            audio=SPECTROGRAM_CNN,
            fusion=FusionConfig(
                fusion="cross_attention", embed_dim=128, reduce_dim=128, num_heads=4
            ),
        ),
    )


def system5() -> RunConfig:
    """VGG-16, mel spectrogram and BERT, each reduced to 128 numbers and put side by side.

    That is intermediate fusion; the probe report has late fusion (of decisions) beside it.
    2 CPU ranks, half an hour.
    """
    return _run(
        "system5",
        BackboneConfig(
            text=BERT,
            image=ImageConfig(encoder="vgg16", size_pixels=64, width=128),
            audio=SPECTROGRAM_CNN,
            fusion=FusionConfig(fusion="concat", embed_dim=128, reduce_dim=128),
        ),
    )


def _run(name: str, backbone: BackboneConfig) -> RunConfig:
    """The run that all five share but for their backbone."""
    return RunConfig(
        run=Path("runs") / name,
        pretrain=PretrainConfig(
            data=DataConfig(shards="shards", loader=LoaderConfig(num_workers=1)),
            backbone=backbone,
            views=ViewsConfig(
                image=ImageViewConfig(jitter_probability=0.3, grayscale_probability=0.05),
                audio=AudioViewConfig(crop_seconds=0.96),
                # Chances that keep the fusion from reading the text alone; see SubsetConfig.
                subset=SubsetConfig(text=0.2, image=0.8, audio=0.4),
            ),
            byol=ByolConfig(heads=HeadConfig(hidden_size=512, embed_dim=128)),
            optim=OptimConfig(learning_rate=1e-3),
            batch=BatchConfig(global_samples=128),
            total_steps=1500,
            checkpoint_every_steps=500,
            log_every_steps=50,
            health=HealthConfig(trend_looks=24),
        ),
        ranks=2,
    )
