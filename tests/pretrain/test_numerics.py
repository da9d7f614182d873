"""Whole training steps in this process: optimizers, precision, and what is refused."""

import itertools
from dataclasses import replace

import pytest
import torch

from pretrain.build import Training
from pretrain.checkpoint import newest_complete
from pretrain.health import HealthConfig
from pretrain.optim import OptimConfig
from pretrain.step import NonFiniteLossError
from pretrain.trainer import train
from tiny import tiny_backbone, tiny_pretrain

pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.fixture
def training_with(tmp_path, sample_shards):
    """Makes trainings, and closes them."""
    made = []

    def make(**changes):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Training(tiny_pretrain(sample_shards, **changes), folder, None))
        return made[-1]

    yield make
    for training in made:
        training.close()


def reports(training, num_steps=3):
    run = training.run()
    batches = itertools.islice(run.batches(0), num_steps)
    return [run.step(batch, step) for step, batch in enumerate(batches)]


def losses(training, num_steps=3):
    return [report.loss for report in reports(training, num_steps)]


@pytest.mark.parametrize("name", ["adamw", "sgd", "adagrad", "lars"])
def test_every_optimizer_trains_in_float32_and_bfloat16(training_with, name):
    optim = OptimConfig(optimizer=name, learning_rate=0.01)
    exact, rounded = (
        losses(training_with(optim=optim, zero_stage=0, precision=precision))
        for precision in ("fp32", "bf16")
    )
    assert len(set(exact)) == 3
    assert rounded == pytest.approx(exact, rel=0.05)


def test_neither_sharding_nor_recomputing_activations_changes_a_loss(training_with):
    plain = losses(training_with(zero_stage=0))
    for stage in (1, 2, 3):
        assert losses(training_with(zero_stage=stage)) == pytest.approx(plain, rel=1e-5)
    recomputed = training_with(activation_checkpointing="encoders")
    assert losses(recomputed) == pytest.approx(plain, rel=1e-5)


def test_a_run_in_bfloat16_makes_pictures_in_it_and_its_towers_read_what_others_do(training_with):
    read, made = {}, {}
    for precision in ("fp32", "bf16"):
        training = training_with(zero_stage=0, precision=precision)
        for network in (training.online, training.target.network):
            network.backbone.encoders["image"].register_forward_pre_hook(
                lambda module, given, precision=precision: read.setdefault(precision, []).append(
                    given[0]
                )
            )
        [report] = reports(training, num_steps=1)
        made[precision] = report.views
    assert (made["fp32"].image.dtype, made["bf16"].image.dtype) == (torch.float32, torch.bfloat16)
    assert {views.log_mel.dtype for views in made.values()} == {torch.float32}
    for exact, rounded in zip(read["fp32"], read["bf16"], strict=True):
        assert rounded.dtype == torch.bfloat16
        assert exact.std() > 0.1
        # A bfloat16 in [0, 1] is off by 2**-9 at most, which the corpus's deviation enlarges.
        torch.testing.assert_close(rounded.float(), exact, rtol=2**-7, atol=0.03)


def test_sounds_are_changed_by_compiled_code_where_all_of_a_run_is_compiled(
    training_with, monkeypatch
):
    compiled = []

    def remember(function, **options):
        if function.__name__ in ("_call_impl", "audio_views"):  # DeepSpeed has some of its own
            compiled.append((function.__name__, options.get("fullgraph", False)))
        return function

    monkeypatch.setattr(torch, "compile", remember)
    found = {}
    for choice in ("off", "encoders", "all"):
        compiled.clear()
        reports(training_with(compile=choice), num_steps=1)
        found[choice] = sorted(compiled)
    encoders = [("_call_impl", False)] * 6  # three of each network
    assert found == {
        "off": [],
        "encoders": encoders,
        "all": [*encoders, ("audio_views", True)],
    }


def test_a_step_tells_the_rate_and_the_decay_that_it_took(training_with):
    optim = OptimConfig(
        learning_rate=0.01,
        final_learning_rate=0.001,
        warmup_fraction=0.5,
        weight_decay=0.1,
        final_weight_decay=0.5,
    )
    training = training_with(optim=optim, total_steps=4)
    seen = [report.values() for report in reports(training)]
    rates = [values["schedule/learning_rate"] for values in seen]
    assert rates == pytest.approx([0.005, 0.01, 0.01])
    decays = [values["schedule/weight_decay"] for values in seen]
    assert decays == pytest.approx([0.1, 0.1 + 0.4 * (1 - 0.5**0.5) / 2, 0.3])


def test_the_target_remembers_a_tenth_of_a_run_whose_pace_is_not_given(training_with):
    assert training_with(total_steps=40).target.tau(0) == pytest.approx(0.75)


def test_a_slowed_tower_moves_less_and_the_others_as_before(training_with):
    optim = OptimConfig(optimizer="sgd", learning_rate=0.1, max_gradient_norm=None)
    plain = tiny_backbone()
    slowed = plain.__class__(
        text=plain.text.__class__(**vars(plain.text) | {"learning_rate_scale": 0.01}),
        image=plain.image,
        audio=plain.audio,
        fusion=plain.fusion,
    )
    moved = []
    for backbone in (plain, slowed):
        training = training_with(backbone=backbone, optim=optim)
        before = {n: p.detach().clone() for n, p in training.online.named_parameters()}
        losses(training, num_steps=1)
        moved.append({n: p.detach() - before[n] for n, p in training.online.named_parameters()})
    for name, step in moved[0].items():
        scale = 0.01 if name.startswith("backbone.encoders.text.") else 1.0
        torch.testing.assert_close(moved[1][name], scale * step, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_gradient_that_is_not_finite_is_traced_and_touches_neither_weight_nor_target(
    training_with, stage, precision
):
    training = training_with(zero_stage=stage, precision=precision)
    online = dict(training.online.named_parameters())
    name = next(name for name in online if name.startswith("backbone.encoders.image."))
    run = training.run()
    good, bad = itertools.islice(run.batches(0), 2)
    run.step(good, 0)
    before = [value.clone() for value in all_masters(training)]
    online[name].register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(NonFiniteLossError) as caught:
        run.step(bad, 1)
    for part in ("rank 0", name, bad.keys[0], bad.keys[-1]):
        assert part in str(caught.value)
    after = all_masters(training)
    assert all(torch.equal(now, then) for now, then in zip(after, before, strict=True))


def all_masters(training):
    online = [value for _, value in training._engine.master_parameters()]
    return [*online, *training.target.full_masters().values()]


def test_weights_that_are_shared_out_give_the_same_signals_of_health(training_with):
    plain, shared_out = (
        signals_of_health(training_with(zero_stage=stage, health=HealthConfig(every_steps=1)))
        for stage in (0, 3)
    )
    assert any(name.startswith("gradient/share_") for name in plain)
    assert any(name.startswith("health/drift_") for name in plain)
    # Cosines of gradients that are nearly at right angles have few digits.
    assert shared_out == pytest.approx(plain, rel=1e-4, abs=1e-5)


def signals_of_health(training):
    reports(training)
    return training.health.values(3)


@pytest.mark.parametrize(("precision", "stage"), [("bf16", 1), ("fp32", 3), ("bf16", 3)])
def test_a_frozen_tower_is_the_same_after_a_resume(tmp_path, sample_shards, precision, stage):
    backbone = tiny_backbone()
    frozen = replace(backbone, text=replace(backbone.text, frozen=True))
    config = tiny_pretrain(
        sample_shards,
        precision=precision,
        zero_stage=stage,
        backbone=frozen,
        total_steps=4,
        checkpoint_every_steps=2,
    )
    (tmp_path / "run").mkdir()
    first = Training(config, tmp_path / "run", None)
    # As a warm start does: weights that the seed does not give.
    masters = first.target.full_masters()
    for name, value in masters.items():
        if name.startswith("backbone.encoders.text."):
            value.fill_(0.123)
    first._engine.restore_frozen(masters)
    train(first.run(), first.progress, should_stop=lambda: True)
    first.close()
    second = Training(config, tmp_path / "run", newest_complete(tmp_path / "run"))
    train(second.run(), second.progress)
    second.close()
    name = "backbone.encoders.text.model.embeddings.word_embeddings.weight"
    for masters in (second.target.full_masters(), dict(second._engine.master_parameters())):
        assert torch.equal(masters[name], torch.full_like(masters[name], 0.123))
