"""Samples that only join the training part, such as those that pretraining has seen."""

import numpy as np
import pytest

from eval.probes.features import extract_features
from eval.probes.problems import task_splits
from eval.samples import TaskSamples
from eval.splits import SplitConfig
from pretrain.models import Backbone


def some_samples(groups, num_testable):
    count = len(groups)
    return TaskSamples(
        ids=tuple(map(str, range(count))),
        labels=np.arange(count) % 2,
        groups=tuple(groups),
        num_testable=num_testable,
        present=np.ones((count, 3), dtype=bool),
        texts=("",) * count,
        num_unlabelled=0,
    )


def test_samples_only_trained_on_are_in_every_training_part_and_nowhere_else():
    samples = some_samples([f"g{i}" for i in range(50)], num_testable=30)
    for split in task_splits(samples, SplitConfig()):
        assert set(range(30, 50)) <= set(split.train.tolist())
        assert split.test.max() < 30
        assert split.validation.max() < 30


def test_a_group_that_is_both_tested_and_only_trained_on_is_refused():
    groups = [f"g{i}" for i in range(50)]
    groups[40] = "g3"
    with pytest.raises(ValueError, match="g3"):
        task_splits(some_samples(groups, num_testable=30), SplitConfig())


def test_the_sample_topics_test_no_picture_that_pretraining_sees(topics, checkpoint):
    backbone = Backbone.load(checkpoint.backbone)
    samples, _ = extract_features({"pretrained": backbone}, topics)
    assert (samples.num_testable, len(samples.ids)) == (180, 477)
    tested, seen = samples.groups[:180], samples.groups[180:]
    assert not set(tested) & set(seen)
