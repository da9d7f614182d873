"""A small probe report made of clouds of points; and, where a test asks, a whole small run."""

import functools

import numpy as np
import pytest

from eval.metrics import METRICS
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.probe_report import ProbeReport
from eval.probes.subset_probe import SubsetInput, probe_subsets
from eval.probes.subset_report import Measure
from eval.splits import SplitConfig, group_splits
from eval.tasks import load_task
from tiny_release import checking_here, publish_small, write_run
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
        measure=Measure(classes=CLASSES, metrics=METRICS, metric="macro_f1"),
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


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, sample_shards):
    """A whole checkpoint of a small untrained backbone with batch norm in its picture encoder."""
    return write_run(tmp_path_factory.mktemp("run"), sample_shards)


@pytest.fixture
def checked_here():
    """No fresh process looks at what is published."""
    with checking_here():
        yield


@pytest.fixture(scope="session")
def release(tmp_path_factory, sample_shards):
    """A published backbone whose three encoders are transformers classes."""
    with checking_here():
        return publish_small(tmp_path_factory.mktemp("release"), sample_shards)


@pytest.fixture(scope="session")
def few_topics(tmp_path_factory):
    """A task of a few pictures of three topics from the sample corpus."""
    return write_few_topics(tmp_path_factory.mktemp("few"))


@pytest.fixture(scope="session")
def topics(tmp_path_factory):
    """The built-in task, sharded once."""
    return load_task("sample-topics", tmp_path_factory.mktemp("tasks"))
