"""Every encoder, fusion and objective trains a few steps through the real engine."""

import math
from dataclasses import replace

import pytest
import torch

from pretrain.config import BatchConfig
from pretrain.models import AudioConfig, BackboneConfig, FusionConfig, ImageConfig, TextConfig
from pretrain.models.audio import AUDIO_ENCODERS
from pretrain.models.fusion import FUSIONS
from pretrain.models.image import IMAGE_ENCODERS
from pretrain.models.text import TEXT_ENCODERS
from tiny import tiny_pretrain

COMBINATIONS = [
    ("lstm", "resnet50", "audio_cnn", "attention", "byol"),
    ("textcnn", "small_cnn", "audio_gru", "concat", "autoencoder"),
    ("han", "vgg16", "byol_a", "sum", "adversarial"),
    ("bert", "vit", "ast", "co_attention", "byol"),
    ("bert", "resnet18", "audio_cnn", "cross_attention", "autoencoder"),
    ("lstm", "vit", "byol_a", "graph", "adversarial"),
]
TEXT = TextConfig(hidden_size=16, num_layers=1, num_heads=2, max_tokens=16, num_filters=8)
IMAGE = ImageConfig(size_pixels=32, width=32, num_layers=1, num_heads=2, patch_pixels=8)
AUDIO = AudioConfig(width=8, embed_dim=16, num_layers=1, num_heads=2, clip_seconds=1.0)
FUSION = FusionConfig(embed_dim=16, reduce_dim=16, num_heads=2)


def test_the_combinations_below_hold_every_part():
    texts, images, audios, fusions, objectives = map(set, zip(*COMBINATIONS, strict=True))
    assert texts == TEXT_ENCODERS.keys()
    assert images == IMAGE_ENCODERS.keys()
    assert audios == AUDIO_ENCODERS.keys()
    assert fusions == FUSIONS.keys()
    assert objectives == {"byol", "autoencoder", "adversarial"}


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_it_trains_and_every_online_parameter_gets_a_gradient(
    parts, tmp_path, sample_shards, one_rank
):
    from pretrain.build import Training
    from pretrain.trainer import train

    text, image, audio, fusion, objective = parts
    config = tiny_pretrain(
        sample_shards,
        backbone=BackboneConfig(
            text=replace(TEXT, encoder=text),
            image=replace(IMAGE, encoder=image),
            audio=replace(AUDIO, encoder=audio),
            fusion=replace(FUSION, fusion=fusion),
        ),
        objective=objective,
        batch=BatchConfig(global_samples=8),
        total_steps=2,
    )
    training = Training(config, tmp_path, None)
    reached: dict[str, float] = {}
    for name, parameter in training.online.named_parameters():
        parameter.register_hook(
            lambda gradient, name=name: reached.update({name: float(gradient.abs().max())})
        )
    progress = train(training.run(), training.progress)
    training.close()
    expected = {n for n, p in training.online.named_parameters() if p.requires_grad}
    assert progress.step == 2
    assert reached.keys() == expected
    assert all(math.isfinite(value) for value in reached.values())
    assert torch.isfinite(torch.stack([p.abs().max() for p in training.online.parameters()])).all()
