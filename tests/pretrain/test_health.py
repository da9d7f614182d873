import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pretrain.health import (
    Finding,
    HealthConfig,
    HealthThresholds,
    Verdict,
    effective_rank,
    embedding_std,
    last_healthy,
    load_looks,
    load_verdict,
    save_verdict,
)
from pretrain.health.rules import Look, judge
from pretrain.health.signals import (
    alignment_signals,
    alpha_req,
    only_present,
    separation,
    stage_signals,
)
from pretrain.health.weights import WeightsLook, sample_weights, weight_signals

CONFIG = HealthConfig(grace_steps=0, patience=3, trend_looks=8)
HEALTHY = {
    "loss/total": 5.0,
    "loss/intra_image": 2.0,
    "loss/cross_text_image": 3.0,
    "gradient/norm": 1.0,
    "health/std_projector_audio": 0.8,
    "health/std_target_audio": 0.8,
    "health/std_predictor_cross_text_audio": 0.3,
    "health/rank_projector_audio": 12.0,
    "health/separation_encoder_audio": 0.6,
    "health/target_step": 0.01,
    "health/target_error": 1e-4,
    "health/update_audio": 0.002,
    "health/drift_audio": 0.1,
    "gradient/cosine_intra_cross_audio": 0.1,
}


def looks(num=6, total=100, **changed):
    """Healthy looks, with some signals replaced; a list gives one value for each look."""
    return [
        Look(
            step + 1,
            (step + 1) / total,
            HEALTHY
            | {
                name.replace("__", "/"): values[step] if isinstance(values, list) else values
                for name, values in changed.items()
            },
        )
        for step in range(num)
    ]


def rules(history, config=CONFIG):
    return {finding.rule for finding in judge(history, config)}


def test_isotropic_embeddings_are_healthy():
    rows = torch.randn(2, 2048, 64)
    assert embedding_std(rows) == pytest.approx(1.0, abs=0.02)
    assert effective_rank(rows) > 60


def test_a_modality_that_is_one_point_shows_in_its_own_signals_only():
    point = torch.ones(2, 256, 64) + 1e-4 * torch.randn(2, 256, 64)
    signals = stage_signals({"projector": {"audio": point, "text": torch.randn(2, 256, 64)}})
    assert signals["health/std_projector_audio"] < 0.01
    assert signals["health/std_projector_text"] > 0.9


def test_a_subspace_keeps_its_std_but_not_its_rank():
    rows = torch.randn(2048, 8) @ torch.linalg.qr(torch.randn(64, 8)).Q.T
    assert embedding_std(rows) > 0.9
    assert effective_rank(rows) < 9


@given(alpha=st.floats(0.3, 3.0))
def test_alpha_is_the_exponent_of_the_spectrum(alpha):
    scale = torch.arange(1, 33).double().pow(-alpha / 2.0)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    hadamard = signs
    for _ in range(5):
        hadamard = torch.kron(hadamard, signs)
    rows = hadamard[:, 1:33] * scale  # orthogonal columns of mean 0
    assert alpha_req(rows) == pytest.approx(alpha, abs=1e-3)


def test_views_that_keep_nothing_of_their_sample_have_no_separation():
    samples = torch.randn(1, 512, 32)
    assert separation(samples + 0.1 * torch.randn(2, 512, 32)) > 0.9
    assert abs(separation(torch.ones(2, 512, 32) + torch.randn(2, 512, 32))) < 0.1


def test_alignment_is_of_the_prediction_with_the_target_of_the_other_view():
    target = torch.randn(2, 64, 32)
    stages = {
        "predictor": {
            "cross_text_image": target.flip(0),
            "cross_image_text": torch.randn(2, 64, 32),
        },
        "target": {"image": target, "text": torch.randn(2, 64, 32)},
    }
    signals = alignment_signals(stages, torch.ones(64, 3, dtype=torch.bool))
    assert signals == {"health/alignment_text_image": pytest.approx(0.5, abs=0.1)}


def test_rows_without_a_modality_are_left_out_of_its_signals():
    present = torch.tensor([[True, True, False], [True, False, True], [True, True, True]])
    stages = {"encoder": {"audio": torch.rand(2, 3, 4), "fused": torch.rand(2, 3, 4)}}
    left = only_present(stages, present)
    assert torch.equal(left["encoder"]["audio"], stages["encoder"]["audio"][:, 1:])
    assert left["encoder"]["fused"].shape[1] == 3
    alone = stage_signals(only_present(stages, torch.eye(3, dtype=torch.bool)))
    assert math.isnan(alone["health/std_encoder_audio"])


def moved(tau_seen, tau=0.9, round_to=None):
    """Signals of a step after which the target took the share 1 - tau_seen of the way."""
    generator = torch.Generator().manual_seed(0)
    name = "backbone.encoders.text.weight"
    online = torch.randn(64, 33, generator=generator)
    before = online + 0.3 * torch.randn(64, 33, generator=generator)
    after = before + (1.0 - tau_seen) * (online - before)
    if round_to is not None:
        before, after = before.to(round_to).float(), after.to(round_to).float()
    sampled = [sample_weights({name: value}.items()) for value in (online, online, before, after)]
    return weight_signals(WeightsLook(*sampled, tau))


def test_a_target_that_follows_shows_the_expected_update():
    signals = moved(0.9)
    assert signals["health/target_step"] == pytest.approx(0.1, rel=1e-3)
    assert signals["health/target_follow"] == pytest.approx(1.0, abs=1e-3)
    assert signals["health/target_error"] < 1e-3


def test_a_target_that_is_rounded_or_updated_twice_does_not():
    assert moved(0.999, tau=0.999, round_to=torch.bfloat16)["health/target_error"] > 0.3
    assert moved(0.81)["health/target_follow"] == pytest.approx(1.9, abs=0.01)


def test_nothing_is_said_of_a_target_whose_update_float32_cannot_hold():
    assert "health/target_error" not in moved(1.0 - 1e-7, tau=1.0 - 1e-7)


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("embeddings_are_one_point", {"health__std_projector_audio": 0.05}),
        ("embeddings_are_one_point", {"health__std_target_audio": 0.05}),
        ("embeddings_are_one_point", {"health__std_predictor_cross_text_audio": 0.005}),
        ("embeddings_lie_on_a_line", {"health__rank_projector_audio": 1.2}),
        ("modality_is_constant", {"health__separation_encoder_audio": [0.2, -0.1] * 3}),
        ("target_never_moves", {"health__target_step": 0.0}),
        ("target_loses_updates", {"health__target_error": 0.4}),
        ("weights_run_away", {"health__update_audio": 0.2}),
        ("weights_run_away", {"health__drift_audio": 3.0}),
        ("loss_explodes", {"loss__cross_text_image": [5.0, 5.0, 5.0, 20.0, 20.0, 20.0]}),
        ("loss_explodes", {"gradient__norm": [1.0, 1.0, 1.0, 500.0, 500.0, 500.0]}),
        ("numbers_are_not_finite", {"gradient__norm": [1.0] * 5 + [math.inf]}),
        ("gradients_pull_apart", {"gradient__cosine_intra_cross_audio": -0.8}),
    ],
)
def test_each_illness_is_found_by_its_rule_alone(rule, changed):
    assert rules(looks(**changed)) == {rule}


def test_a_total_that_rises_with_the_ramp_of_a_weight_is_no_explosion():
    assert rules(looks(loss__total=[1.0, 2.0, 3.0, 4.0, 4.0, 4.0])) == set()


def test_a_healthy_history_has_no_findings():
    assert rules(looks(60)) == set()


def test_one_bad_look_is_no_finding():
    spread = [0.8, 0.8, 0.8, 0.05, 0.05, 0.8]
    assert rules(looks(health__std_projector_audio=spread)) == set()


def test_embeddings_are_not_judged_in_the_grace_steps():
    sick = looks(6, health__std_projector_audio=0.01)
    assert rules(sick, dataclasses.replace(CONFIG, grace_steps=4)) == set()
    assert rules(sick, dataclasses.replace(CONFIG, grace_steps=2)) != set()


def test_a_target_that_rests_at_the_end_of_its_schedule_is_healthy():
    assert rules(looks(6, total=6, health__target_step=0.0)) == set()


def test_intra_that_rises_while_cross_falls_is_found():
    def history(intra_slope):
        losses = [(1.0 + intra_slope * step, 4.0 - step / 10) for step in range(1, 9)]
        return [
            Look(step, step / 100, {"loss/intra_text": intra, "loss/cross_text_image": cross})
            for step, (intra, cross) in enumerate(losses, start=1)
        ]

    assert rules(history(0.1)) == {"cross_wins_over_intra"}
    assert rules(history(0.0)) == set()
    assert rules(history(-0.1)) == set()


@given(num=st.integers(1, 12), bad_from=st.integers(0, 12))
def test_a_rule_fires_from_the_patience_th_bad_look_on(num, bad_from):
    spread = [0.8 if step < bad_from else 0.01 for step in range(num)]
    fired = "embeddings_are_one_point" in rules(looks(num, health__std_projector_audio=spread))
    assert fired == (num - bad_from >= CONFIG.patience)


def test_every_finding_says_what_was_seen_and_what_to_do():
    sick = {
        "health__std_projector_audio": 0.01,
        "health__target_step": 0.0,
        "health__update_audio": 1.0,
    }
    for finding in judge(looks(**sick), CONFIG):
        assert len(finding.sentence) > 80
        assert finding.sentence.endswith(".")


def test_the_newest_fit_checkpoint_is_offered(tmp_path):
    sick = Verdict(step=3, findings=(Finding(rule="r", severity="stop", sentence="s."),))
    for name, verdict in (("step-1", Verdict()), ("step-2", Verdict(step=2)), ("step-3", sick)):
        (tmp_path / name).mkdir()
        save_verdict(verdict, tmp_path / name)
    (tmp_path / "step-4").mkdir()
    assert last_healthy(list(tmp_path.iterdir())) == tmp_path / "step-2"
    assert load_verdict(tmp_path / "step-3") == sick
    assert load_verdict(tmp_path / "step-4") is None


def test_a_resumed_run_remembers_its_looks_up_to_the_checkpoint(tmp_path):
    path = tmp_path / "health.jsonl"
    lines = [json.dumps({"step": s, "loss/total": 1.0, "verdict": {}}) for s in (10, 20, 30)]
    path.write_text("\n".join([*lines, '{"step": 4']))
    assert load_looks(path, 20, 100) == [
        Look(10, 0.1, {"loss/total": 1.0}),
        Look(20, 0.2, {"loss/total": 1.0}),
    ]
    assert load_looks(tmp_path / "none", 20, 100) == []


@pytest.mark.parametrize(
    ("name", "value"), [("patience", 0), ("rows", 1), ("every_steps", 0), ("gradient_rows", 1)]
)
def test_an_option_that_makes_no_sense_is_named(name, value):
    with pytest.raises(ValueError, match=f"health.{name}"):
        HealthConfig(**{name: value})


def test_a_threshold_must_be_positive():
    with pytest.raises(ValueError, match=r"health\.thresholds\.min_rank"):
        HealthThresholds(min_rank=0.0)
