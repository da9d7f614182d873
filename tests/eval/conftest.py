"""A small probe report made of clouds of points; and, where a test asks, a whole small run."""

import functools
import json

import numpy as np
import pytest
import torch

from data_sharding.stats import CorpusStats
from eval.linear_probe import LinearProbeConfig, SplitProblem
from eval.probe_report import ProbeReport
from eval.splits import SplitConfig, group_splits
from eval.subset_probe import SubsetInput, probe_subsets
from eval.tasks import load_task
from pretrain.checkpoint import Progress, open_checkpoint
from pretrain.models import (
    AudioConfig,
    Backbone,
    BackboneConfig,
    ImageConfig,
    TextConfig,
)
from tiny import write_checkpoint
from tiny_tasks import CLASSES, write_few_topics


def _subset(name, gain, num_splits):
    generator = np.random.default_rng(0)
    labels = (np.arange(90) % 3).astype(np.int64)
    groups = [f"picture-{place}" for place in range(90)]
    splits = group_splits(labels, groups, SplitConfig(num_splits=num_splits))
    centres = generator.normal(size=(3, 16))

    def features(distance):
        noise = generator.normal(size=(90, 16))
        return (centres[labels] * distance + noise).astype(np.float32)

    return SubsetInput(
        subset=name,
        pretrained=features(gain),
        random={str(seed): features(0.1) for seed in range(2)},
        texts=[f"about {CLASSES[label]}" for label in labels] if name == "text" else None,
        problems=[
            SplitProblem(
                labels=labels,
                groups=groups,
                split=split,
                num_classes=3,
                config=LinearProbeConfig(inverse_regularisation=(0.01, 1.0)),
            )
            for split in splits
        ],
        classes=CLASSES,
        metric="macro_f1",
    )


@pytest.fixture(scope="session")
def make_report():
    """Reports of made-up features: text learns much, image nothing; audio is missing."""

    @functools.cache
    def made(step=200, num_splits=10, task_name="clouds", digest="ab" * 32):
        given = [_subset(name, gain, num_splits) for name, gain in (("text", 1.0), ("image", 0.1))]
        subsets = probe_subsets(given, late=given[0].problems)
        return ProbeReport(
            task={
                "name": task_name,
                "metric": "macro_f1",
                "classes": list(CLASSES),
                "split_rule": "pictures are groups",
                "source": "made up",
                "licence": "cc0-1.0",
            },
            checkpoint={
                "name": f"step-{step:08d}",
                "step": step,
                "samples_consumed": 64 * step,
                "digest": digest,
            },
            shards={
                "digest": "cd" * 32,
                "num_samples": 90,
                "num_groups": 90,
                "num_unlabelled": 0,
                "samples_per_class": dict.fromkeys(CLASSES, 30),
            },
            protocol={
                "splits": {"num_splits": num_splits},
                "num_random_backbones": 2,
                "selection": "validation",
                "standardisation": "the training part",
                "interval": "corrected",
                "random_floor": "averaged",
                "late": "even vote",
            },
            subsets=subsets,
            missing={"audio": "no labelled sample of clouds has audio"},
        )

    return made


def write_run(run, shards, seed=99):
    """A run folder with one whole checkpoint of a small backbone; returns the checkpoint."""
    backbone = Backbone(
        BackboneConfig(
            text=TextConfig(hidden_size=32, num_layers=1, num_heads=2, max_tokens=16),
            image=ImageConfig(encoder="resnet18", size_pixels=32, width=32),
            audio=AudioConfig(width=8, embed_dim=32, clip_seconds=1.0),
        ),
        CorpusStats.load(shards / "stats"),
        shards / "stats" / "tokenizer.json",
    )
    config = {
        "data": {"shards": str(shards)},
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


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, sample_shards):
    """A whole checkpoint of a small untrained backbone with batch norm in its picture encoder."""
    return write_run(tmp_path_factory.mktemp("run"), sample_shards)


@pytest.fixture(scope="session")
def few_topics(tmp_path_factory):
    """A task of a few pictures of three topics from the sample corpus."""
    return write_few_topics(tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="session")
def topics(tmp_path_factory):
    """The built-in task, sharded once."""
    return load_task("sample-topics", tmp_path_factory.mktemp("tasks"))
