"""Looking at a run, on one real rank."""

import json

import pytest
import torch
from torch import nn

from pretrain.build import Training
from pretrain.checkpoint import newest_complete
from pretrain.health import (
    GradientProbe,
    HealthConfig,
    HealthMonitor,
    HealthThresholds,
    WatchedRun,
)
from pretrain.health.rules import Look
from pretrain.objectives import Byol, ByolConfig
from pretrain.trainer import train
from tiny import tiny_pretrain

pytestmark = pytest.mark.usefixtures("one_rank")


def trained(folder, shards, on_evaluate=lambda backbone: {}, **changes):
    """Losses of a few steps, and all that the run wrote."""
    folder.mkdir()
    config = tiny_pretrain(shards, total_steps=6, checkpoint_every_steps=6, **changes)
    training = Training(config, folder, None)
    train(training.run(on_evaluate), training.progress)
    training.close()
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record["loss/total"] for record in records], records


def test_a_run_is_the_same_however_often_it_is_looked_at(tmp_path, sample_shards):
    seen = []

    def scored(backbone):
        seen.append((backbone.training, next(backbone.parameters()).dtype))
        torch.rand(3)
        return {"knn/image": 0.5}

    often, records = trained(
        tmp_path / "often",
        sample_shards,
        scored,
        evaluate_every_steps=2,
        health=HealthConfig(every_steps=1),
    )
    seldom, _ = trained(tmp_path / "seldom", sample_shards, health=HealthConfig(every_steps=6))
    assert often == seldom
    assert seen == [(False, torch.float32)] * 3
    assert [record.get("knn/image") for record in records] == [None, 0.5] * 3
    assert list((tmp_path / "often" / "tensorboard").rglob("metadata.tsv"))


def test_only_looked_at_steps_have_signals_and_each_has_a_record(tmp_path, sample_shards):
    _, records = trained(tmp_path / "run", sample_shards, health=HealthConfig(every_steps=3))
    looked = [record["step"] for record in records if "health/verdict" in record]
    kept = (tmp_path / "run" / "health.jsonl").read_text().splitlines()
    assert looked == [json.loads(line)["step"] for line in kept] == [3, 6]
    last = records[-1]
    assert last["health/target_follow"] == pytest.approx(1.0, abs=0.05)
    for name in ("std_target_audio", "alignment_text_image", "drift_text", "update_fusion"):
        assert f"health/{name}" in last
    assert {"gradient/share_heads", "gradient/cosine_intra_cross_text"} <= last.keys()
    verdict = json.loads((tmp_path / "run/checkpoints/step-00000006/health.json").read_text())
    assert verdict["state"] == "healthy"


@pytest.mark.parametrize("name", ["evaluate_every_steps", "health"])
def test_a_measurement_between_logged_steps_is_refused(sample_shards, name):
    value = 15 if name == "evaluate_every_steps" else HealthConfig(every_steps=15)
    with pytest.raises(ValueError, match="multiple of log_every_steps"):
        tiny_pretrain(sample_shards, log_every_steps=10, **{name: value})


def test_what_was_found_before_a_stop_is_known_at_the_resume(tmp_path, sample_shards):
    sick = HealthConfig(
        every_steps=1,
        grace_steps=0,
        patience=2,
        on_collapse="warn",
        thresholds=HealthThresholds(min_projection_std=2.0),
    )
    trained(tmp_path / "run", sample_shards, health=sick)
    config = tiny_pretrain(sample_shards, total_steps=6, health=sick)
    resumed = Training(config, tmp_path / "run", newest_complete(tmp_path / "run"))
    resumed.close()
    assert resumed.health.verdict.state == "collapsed"
    assert resumed.health.verdict.step == 6


def test_a_look_without_the_illness_does_not_make_a_run_fit_again():
    looks = [Look(step, step / 9, {"health/std_projector_audio": 0.01}) for step in (1, 2)]
    looks += [Look(step, step / 9, {"health/std_projector_audio": 0.9}) for step in (3, 4)]
    config = HealthConfig(grace_steps=0, patience=2)
    nothing = GradientProbe(nn.Identity(), nn.Identity(), Byol(ByolConfig()))
    run = WatchedRun(
        online_weights=list,
        target_weights=list,
        gradients=nothing,
        sum_over_ranks=lambda value: value,
        total_steps=9,
    )
    verdict = HealthMonitor(config, run, 1, looks).verdict
    assert (verdict.step, verdict.fit_to_publish) == (4, False)
