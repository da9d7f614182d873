import dataclasses
import shutil

import numpy as np
import pytest
import torch

from eval.probes.embedding_map import map_from_json, map_path
from eval.probes.features import extract_features, parameters_digest, recompute_batch_norm
from eval.probes.linear_probe import LinearProbeConfig
from eval.probes.probe import ProbeConfig, probe, report_path
from eval.records import read_json, to_json_text
from eval.splits import SplitConfig
from eval.tasks import Task
from pretrain.checkpoint import CheckpointError
from pretrain.models import Backbone
from tiny_tasks import write_intensities

QUICK = ProbeConfig(
    splits=SplitConfig(num_splits=2),
    linear=LinearProbeConfig(inverse_regularisation=(0.01, 1.0), max_iterations=100),
    num_random_backbones=1,
)


def with_card(task, **changes):
    card = dataclasses.replace(task.card, **changes)
    return Task(card=card, folder=task.folder, shards=task.shards)


@pytest.fixture
def own(checkpoint, tmp_path):
    """The checkpoint in a run of this test's own."""
    made = shutil.ignore_patterns("probes", "features")
    shutil.copytree(checkpoint.run, tmp_path / "run", ignore=made)
    folder = tmp_path / "run" / "checkpoints" / checkpoint.folder.name
    return dataclasses.replace(checkpoint, folder=folder)


@pytest.fixture(scope="session")
def probed(checkpoint, few_topics):
    return probe(checkpoint, few_topics, QUICK)


def test_features_come_from_a_frozen_backbone_that_does_not_change(checkpoint, few_topics):
    backbone = Backbone.load(checkpoint.backbone)
    before = parameters_digest(backbone)
    samples, features = extract_features({"it": backbone}, few_topics)
    assert not backbone.training
    assert features["it"].parameters_sha256 == before == parameters_digest(backbone)
    count = few_topics.shards.num_samples
    assert len(samples.ids) == count
    assert {name: values.shape for name, values in features["it"].by_subset.items()} == {
        name: (count, dim)
        for name, dim in {"text": 32, "image": 32, "audio": 32, "fused": 256}.items()
    }


def test_features_do_not_depend_on_the_batch_size(checkpoint, few_topics):
    backbone = Backbone.load(checkpoint.backbone)
    _, one = extract_features({"it": backbone}, few_topics, batch_size=64)
    _, other = extract_features({"it": backbone}, few_topics, batch_size=7)
    for name, values in one["it"].by_subset.items():
        np.testing.assert_allclose(values, other["it"].by_subset[name], atol=1e-4)


def test_a_fresh_backbone_gets_batch_norm_statistics_of_the_task(checkpoint, few_topics):
    fresh = Backbone.random_like(checkpoint.backbone, seed=0)
    norms = [module for module in fresh.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(bool((norm.running_mean == 0).all()) for norm in norms)
    recompute_batch_norm([fresh], few_topics)
    assert not any(bool((norm.running_mean == 0).all()) for norm in norms)
    assert not fresh.training


def test_a_report_holds_every_representation_with_its_floors(probed, checkpoint):
    assert list(probed.subsets) == ["text", "image", "audio", "fused", "late"]
    for name, part in probed.subsets.items():
        floors = {"majority", "shuffled", "random"} | ({"tfidf"} if name == "text" else set())
        assert set(part.floors) == floors
        assert 0.0 < part.pretrained.metrics["macro_f1"].mean < 1.0
    assert probed.checkpoint["digest"] == checkpoint.digest


def test_every_representation_is_split_alike(probed):
    sizes = [part.split_sizes for name, part in probed.subsets.items() if name != "audio"]
    assert all(size == sizes[0] for size in sizes)


def test_the_report_says_nothing_of_where_it_was_made(probed, checkpoint, few_topics):
    text = report_path(checkpoint, few_topics).read_text()
    assert str(checkpoint.run) not in text
    assert "NaN" not in text


def test_probing_again_reads_the_report_and_changes_nothing(probed, checkpoint, few_topics):
    path = report_path(checkpoint, few_topics)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    again = probe(checkpoint, few_topics, QUICK)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert to_json_text(again.to_json()) == path.read_text()


def test_probing_from_scratch_gives_the_same_bytes(probed, checkpoint, own, few_topics):
    probe(own, few_topics, QUICK)
    assert (
        report_path(own, few_topics).read_bytes()
        == report_path(checkpoint, few_topics).read_bytes()
    )


def test_more_processes_give_the_same_bytes(probed, checkpoint, own, few_topics):
    probe(own, few_topics, dataclasses.replace(QUICK, fit_workers=2))
    assert (
        report_path(own, few_topics).read_bytes()
        == report_path(checkpoint, few_topics).read_bytes()
    )


def test_one_modality_alone_has_nothing_to_vote_with(own, few_topics):
    config = dataclasses.replace(QUICK, representations=("image", "fused"))
    assert list(probe(own, few_topics, config).subsets) == ["image", "fused"]


def test_where_nothing_can_be_probed_no_report_is_written(own, tmp_path):
    task = write_intensities(tmp_path)
    config = dataclasses.replace(QUICK, representations=("audio", "fused_text_audio"))
    with pytest.raises(ValueError, match=r"nothing to probe: audio: no labelled sample of inten"):
        probe(own, task, config)
    assert not report_path(own, task).exists()


def test_the_vote_of_untaught_probes_is_about_chance(probed):
    late = probed.subsets["late"]
    shuffled = late.floors["shuffled"].metrics["macro_f1"].mean
    assert shuffled < late.pretrained.metrics["macro_f1"].mean
    assert late.num_samples == probed.subsets["fused"].num_samples


def test_a_broken_report_is_made_again(probed, own, few_topics, checkpoint):
    path = report_path(own, few_topics)
    path.parent.mkdir(parents=True)
    path.write_text('{"half')
    probe(own, few_topics, QUICK)
    assert path.read_bytes() == report_path(checkpoint, few_topics).read_bytes()


def test_a_checkpoint_replaced_after_it_was_opened_is_not_scored(own, few_topics):
    replaced = dataclasses.replace(own, digest="0" * 64)
    with pytest.raises(CheckpointError, match="replaced since it was opened"):
        probe(replaced, few_topics, QUICK)
    assert not report_path(own, few_topics).exists()


def test_an_unknown_label_is_named(own, few_topics):
    few = with_card(few_topics, classes=few_topics.card.classes[:-1])
    with pytest.raises(ValueError, match="label 'town'"):
        probe(own, few, QUICK)


def test_a_class_without_samples_is_refused(own, few_topics):
    more = with_card(few_topics, classes=(*few_topics.card.classes, "dragons"))
    with pytest.raises(ValueError, match="no labelled sample with text is 'dragons'"):
        probe(own, more, QUICK)
    assert not report_path(own, few_topics).exists()


def test_a_missing_label_key_and_a_missing_group_are_named(own, few_topics):
    with pytest.raises(ValueError, match=r"no sample carries labels\.mood"):
        probe(own, with_card(few_topics, label_key="mood"), QUICK)
    with pytest.raises(ValueError, match=r"lacks metadata\.speaker"):
        probe(own, with_card(few_topics, group_key="speaker"), QUICK)


def test_features_that_are_not_finite_are_refused(checkpoint, few_topics):
    backbone = Backbone.load(checkpoint.backbone)
    with torch.no_grad():
        next(backbone.encoders["image"].parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="image features are not finite"):
        extract_features({"it": backbone}, few_topics)


def test_a_probe_leaves_an_embedding_map_that_tells_no_sample(probed, checkpoint, few_topics):
    path = map_path(checkpoint, few_topics.name)
    found = map_from_json(read_json(path))
    assert set(found.projections) == {"text", "image", "audio", "fused"}
    assert found.classes == few_topics.card.classes
    assert found.checkpoint == probed.checkpoint
    assert str(checkpoint.run) not in path.read_text()
    assert found.num_samples == len(found.projections["text"].places) == 36
