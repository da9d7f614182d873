"""Many backbones, and the raw features, on one task."""

import dataclasses

import numpy as np
import pytest
import torch

from eval.probes.arms import probe_arms
from eval.probes.features import extract_features
from eval.probes.linear_probe import LinearProbeConfig
from eval.probes.probe import ProbeConfig, probe
from eval.probes.probe_config import describe_protocol
from eval.probes.problems import usable
from eval.probes.raw_features import log_mel_statistics, raw_features, raw_scores
from eval.representations import FUSED_SUBSETS, REPRESENTATIONS, readable, represent
from eval.samples import TaskSamples, task_batches
from eval.splits import SplitConfig
from pretrain.models import Backbone

QUICK = ProbeConfig(
    splits=SplitConfig(num_splits=2),
    linear=LinearProbeConfig(inverse_regularisation=(0.01, 1.0), max_iterations=100),
    num_random_backbones=1,
)
ALL = dataclasses.replace(QUICK, representations=REPRESENTATIONS)


@pytest.fixture(scope="module")
def backbone(checkpoint):
    return Backbone.load(checkpoint.backbone)


@pytest.fixture(scope="module")
def fresh(checkpoint):
    return Backbone.random_like(checkpoint.backbone, seed=0)


@pytest.fixture(scope="module")
def batch(backbone, few_topics):
    return next(iter(task_batches(backbone, few_topics.shards, 8)))


@pytest.fixture(scope="module")
def arms(backbone, fresh, few_topics):
    return probe_arms({"trained": backbone, "fresh": fresh}, few_topics, ALL)


@pytest.fixture(scope="module")
def raw(backbone, few_topics):
    return raw_scores(few_topics, backbone, QUICK)


def test_an_arm_scores_what_the_probe_of_its_checkpoint_scores(arms, checkpoint, few_topics):
    report = probe(checkpoint, few_topics, QUICK)
    for name, part in report.subsets.items():
        assert arms.scores["trained"][name] == pytest.approx(
            part.pretrained.metrics["macro_f1"].per_split
        )
        assert arms.majority[name] == part.floors["majority"].metrics["macro_f1"].per_split
        assert arms.num_samples[name] == part.num_samples


def test_every_arm_is_scored_on_every_representation_and_its_votes(arms):
    wanted = {*REPRESENTATIONS, "late", "late_weighted"}
    for scores in arms.scores.values():
        assert set(scores) == wanted
        assert all(len(per_split) == 2 for per_split in scores.values())
    assert set(arms.majority) == set(arms.test_share) == wanted


def test_scores_do_not_depend_on_the_number_of_processes(arms, backbone, fresh, few_topics):
    config = dataclasses.replace(ALL, fit_workers=2)
    again = probe_arms({"trained": backbone, "fresh": fresh}, few_topics, config)
    assert again == arms


def test_backbones_that_preprocess_differently_are_each_given_their_own(checkpoint, few_topics):
    other = Backbone.load(checkpoint.backbone)
    image = dataclasses.replace(other.config.image, size_pixels=48)
    other.config = dataclasses.replace(other.config, image=image)
    small = Backbone.load(checkpoint.backbone)
    config = dataclasses.replace(QUICK, representations=("image",))
    together = probe_arms({"small": small, "other": other}, few_topics, config)
    for name, alone in (("small", small), ("other", other)):
        assert together.scores[name] == probe_arms({name: alone}, few_topics, config).scores[name]
    with pytest.raises(ValueError, match="small, other need different preprocessing"):
        extract_features({"small": small, "other": other}, few_topics)


def test_the_fusion_of_a_subset_is_what_encode_gives_for_it(backbone, batch):
    made = represent(backbone.eval(), batch, REPRESENTATIONS)
    for name, parts in FUSED_SUBSETS.items():
        present = torch.tensor([[part in parts for part in ("text", "image", "audio")]])
        theirs = backbone.encode(batch, present=present.expand(len(batch), 3))
        torch.testing.assert_close(made[name], theirs.fused)
        torch.testing.assert_close(made["image"], theirs.image)


def test_a_subset_needs_all_of_its_modalities_and_fused_needs_any():
    present = np.array([[True, True, False], [True, False, False], [False, False, False]])
    assert readable("fused_text_image", present).tolist() == [True, False, False]
    assert readable("fused", present).tolist() == [True, True, False]
    assert readable("audio", present).tolist() == [False, False, False]


def test_shared_rows_are_the_samples_that_have_every_modality_of_the_task(few_topics):
    present = np.array([[True, True, True], [True, True, False], [False, True, True]])
    samples = TaskSamples(
        ids=("a", "b", "c"),
        labels=np.arange(3),
        groups=("a", "b", "c"),
        num_testable=3,
        present=present,
        texts=("", "", None),
        num_unlabelled=0,
    )
    assert usable("image", few_topics, samples, "own").tolist() == [True, True, True]
    assert usable("image", few_topics, samples, "shared").tolist() == [True, False, False]
    card = dataclasses.replace(few_topics.card, modalities=("text", "image"))
    pairs = dataclasses.replace(few_topics, card=card)
    assert usable("image", pairs, samples, "shared").tolist() == [True, True, False]


def test_an_unknown_representation_is_refused():
    with pytest.raises(ValueError, match=r"probe\.representations .* got fused_smell"):
        ProbeConfig(representations=("fused_smell",))
    with pytest.raises(ValueError, match="got none"):
        ProbeConfig(representations=())


def test_a_report_tells_what_was_probed_where_it_is_not_the_usual(few_topics):
    card = few_topics.card
    assert "representations" not in describe_protocol(QUICK, card)
    assert describe_protocol(ALL, card)["representations"] == list(REPRESENTATIONS)


def test_raw_features_are_an_arm_on_the_same_splits(raw, arms):
    assert set(raw.scores["raw"]) == {"text", "image", "audio", "fused", "late", "late_weighted"}
    for name in raw.scores["raw"]:
        assert raw.majority[name] == arms.majority[name]
        assert raw.test_share[name] == arms.test_share[name]


def test_raw_text_is_the_tfidf_floor_of_the_report(raw, checkpoint, few_topics):
    floor = probe(checkpoint, few_topics, QUICK).subsets["text"].floors["tfidf"]
    assert raw.scores["raw"]["text"] == floor.metrics["macro_f1"].per_split


def test_raw_features_know_nothing_of_the_weights(raw, fresh, few_topics):
    assert raw_scores(few_topics, fresh, QUICK) == raw


def test_pixels_are_means_of_patches(backbone, batch):
    features = raw_features(batch, backbone)["image"].reshape(len(batch), 3, 16, 16)
    side = batch.image.shape[-1] // 16
    patch = batch.image[0, 0, 1, :side, side : 2 * side].float().mean() / 255.0
    assert features[0, 1, 0, 1] == pytest.approx(float(patch), abs=1e-6)


def test_log_mel_statistics_do_not_count_the_silence_that_pads_a_clip(backbone, batch):
    longer = dataclasses.replace(
        batch, waveform=torch.nn.functional.pad(batch.waveform, (0, 16_000))
    )
    sounding = (batch.waveform[:, 0, -2000:] == 0).all(1)  # the frame at the end sees the padding
    one = raw_features(batch, backbone)["audio"][sounding.numpy()]
    other = raw_features(longer, backbone)["audio"][sounding.numpy()]
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_log_mel_statistics_are_numpys():
    log_mel = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    found = log_mel_statistics(log_mel).numpy()
    rows = log_mel.numpy()
    np.testing.assert_allclose(found[:4], rows.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found[4:8], rows.std(1), rtol=1e-5)
    np.testing.assert_allclose(found[28:32], np.diff(rows).max(1), rtol=1e-5)
    assert found[-1] == 9.0
