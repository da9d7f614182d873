"""Backbones and labelled inputs that are fine-tuned in a second."""

import numpy as np
import torch

from data_sharding.stats import CorpusStats
from eval.finetune import FineTuneConfig, TaskInputs
from eval.finetune.inputs import recipe
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.regression import RegressionProblem, RidgeConfig
from eval.samples import TaskSamples
from eval.splits import SplitConfig, group_splits
from pretrain.models import AudioConfig, Backbone, BackboneConfig, ImageConfig, TextConfig
from pretrain.models.fusion import FusionConfig

NUM, SIDE, TOKENS = 48, 16, 8
QUICK = FineTuneConfig(
    epochs=3, batch_size=8, dropout=0.2, backbone_lr=3e-3, head_lr=3e-2, device="cpu"
)


def make_backbone(shards, image="small_cnn", fusion="concat"):
    config = BackboneConfig(
        text=TextConfig(encoder="textcnn", hidden_size=16, num_filters=8, max_tokens=TOKENS),
        image=ImageConfig(encoder=image, size_pixels=SIDE, width=32),
        audio=AudioConfig(width=8, embed_dim=16, clip_seconds=1.0),
        fusion=FusionConfig(fusion=fusion, embed_dim=16, reduce_dim=16),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stats = shards / "stats"
        return Backbone(config, CorpusStats.load(stats), stats / "tokenizer.json").eval()


def make_inputs(backbone, labels):
    """Texts whose words, and pictures whose brightness, tell the label."""
    generator = np.random.default_rng(0)
    rank = np.unique(labels, return_inverse=True)[1]
    images = generator.integers(0, 60, (NUM, 3, SIDE, SIDE)) + (60 * rank)[:, None, None, None]
    ids = 10 * rank[:, None] + generator.integers(10, 14, (NUM, TOKENS))
    present = np.tile([True, True, False], (NUM, 1))
    present[::8, 1] = False
    samples = TaskSamples(
        ids=tuple(f"s{row}" for row in range(NUM)),
        labels=labels,
        groups=tuple(f"g{row}" for row in range(NUM)),
        num_testable=NUM,
        present=present,
        texts=tuple("words" for _ in range(NUM)),
        num_unlabelled=0,
        places=np.arange(NUM),
    )
    tensors = {
        "token_ids": torch.from_numpy(ids),
        "token_mask": torch.ones(NUM, TOKENS, dtype=torch.bool),
        "image": torch.from_numpy(images.astype(np.uint8)),
    }
    return TaskInputs(
        samples=samples, modalities=("text", "image"), tensors=tensors, made_by=recipe(backbone)
    )


def make_problems(inputs, num_splits=1):
    samples = inputs.samples
    splits = group_splits(samples.strata, samples.groups, SplitConfig(num_splits=num_splits))
    shared = {"labels": samples.labels, "groups": samples.groups}
    if samples.labels.dtype.kind == "f":
        shared |= {"cuts": "mosi", "bounds": (-3.0, 3.0), "config": RidgeConfig()}
        return [RegressionProblem(split=split, **shared) for split in splits]
    shared |= {"num_classes": 3, "config": LinearProbeConfig()}
    return [SplitProblem(split=split, **shared) for split in splits]
