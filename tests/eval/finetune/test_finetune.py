"""A backbone and a head learn together, the same each time, and nothing is chosen on test."""

import fcntl
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_finetune import NUM, QUICK, make_backbone, make_inputs, make_problems

from eval.finetune import Workers, fine_tune, fine_tune_splits
from eval.finetune.inputs import recipe
from eval.finetune.model import TunedModel
from eval.finetune.optimizer import build_optimizer, set_rates
from eval.finetune.splits import LOCK_FILE
from eval.finetune.summary import tuned_findings
from eval.importers.sample_topics import sample_topics_card

RATES = {"adamw": (3e-3, 3e-2), "adagrad": (1e-2, 1e-1), "sgd": (1e-2, 1e-1)}
RATES["nesterov"] = RATES["sgd"]


def weights_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def comparable(result):
    names = ("scores", "curve", "epoch", "masked", "validation", "calibration_error")
    return [*(getattr(result, name) for name in names), result.predicted.tolist()]


@pytest.mark.parametrize("loss", ["cross_entropy", "soft_f1"])
@pytest.mark.parametrize("optimizer", ["adamw", "adagrad", "sgd", "nesterov"])
def test_every_optimizer_learns_a_plain_set_by_either_loss(
    backbone, inputs, problem, optimizer, loss
):
    backbone_lr, head_lr = RATES[optimizer]
    config = replace(
        QUICK, optimizer=optimizer, loss=loss, epochs=8, backbone_lr=backbone_lr, head_lr=head_lr
    )
    result = fine_tune(backbone, inputs, problem, "text", config).result
    assert result.scores.macro_f1 == 1.0
    assert result.curve[-1].loss < 0.5 * result.curve[0].loss


@pytest.mark.parametrize("balance", ["none", "loss", "sampler"])
def test_pictures_and_fusions_are_learnt_with_every_balance(backbone, inputs, problem, balance):
    result = fine_tune(
        backbone, inputs, problem, "fused", replace(QUICK, epochs=6, balance=balance)
    ).result
    assert result.scores.macro_f1 > 0.9
    assert set(result.masked) == {"text", "image"}


def test_numbers_are_learnt_by_absolute_error_and_stay_in_their_range(backbone):
    labels = np.linspace(-3.0, 3.0, NUM)
    inputs = make_inputs(backbone, np.round(labels / 3.0) * 3.0)
    (problem,) = make_problems(inputs)
    result = fine_tune(backbone, inputs, problem, "text", replace(QUICK, epochs=10)).result
    mean = problem.score(problem.split.test, problem.constant()).values["mae"]
    assert result.scores.values["mae"] < 0.5 * mean
    assert result.validation_mae == min(epoch.validation for epoch in result.curve)
    assert result.validation_macro_f1 is None
    assert np.abs(result.predicted).max() <= 3.0


def test_validation_chooses_the_first_of_its_best_epochs(backbone, inputs, problem):
    result = fine_tune(backbone, inputs, problem, "text", replace(QUICK, epochs=6)).result
    marks = [epoch.validation for epoch in result.curve]
    assert marks.count(max(marks)) > 1
    assert result.epoch == 1 + marks.index(max(marks))
    assert result.validation.macro_f1 == result.validation_macro_f1 == max(marks)


def test_labels_of_the_test_part_change_nothing_but_the_scores(backbone, inputs, problem):
    poisoned = problem.labels.copy()
    poisoned[problem.split.test] = (poisoned[problem.split.test] + 1) % 3
    one = fine_tune(backbone, inputs, problem, "text", QUICK)
    other = fine_tune(backbone, inputs, replace(problem, labels=poisoned), "text", QUICK)
    assert not changed(weights_of(one.model), weights_of(other.model))
    assert one.result.curve == other.result.curve
    assert one.result.scores != other.result.scores


def test_the_same_seed_gives_the_same_model_and_another_seed_another(backbone, inputs, problem):
    one, same, other = (
        fine_tune(backbone, inputs, problem, "fused", QUICK, seed) for seed in (1, 1, 2)
    )
    assert comparable(one.result) == comparable(same.result)
    assert not changed(weights_of(one.model), weights_of(same.model))
    assert one.result.curve != other.result.curve


def test_dropout_leaves_the_callers_random_numbers_alone(backbone, inputs, problem):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fine_tune(backbone, inputs, problem, "text", replace(QUICK, epochs=1))
    assert torch.equal(torch.rand(3), expected)


def test_what_a_killed_command_left_is_removed_and_what_is_in_use_stays(
    backbone, inputs, problem, tmp_path
):
    left, held = (tmp_path / f"report.json.inputs-{name}" for name in ("left", "held"))
    for folder in (left, held):
        folder.mkdir()
        (folder / LOCK_FILE).touch()
    with (held / LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        workers = Workers(num=2, beside=tmp_path / "report.json")
        problems = {0: problem, 1: problem}
        fine_tune_splits(backbone, inputs, problems, "text", replace(QUICK, epochs=1), workers)
    assert list(tmp_path.iterdir()) == [held]


def test_splits_have_their_place_as_seed_and_do_not_depend_on_the_workers(
    backbone, inputs, tmp_path
):
    problems = dict(enumerate(make_problems(inputs, 2)))
    workers = Workers(num=2, beside=tmp_path / "report.json")
    alone = fine_tune_splits(backbone, inputs, problems, "text", QUICK)
    together = fine_tune_splits(backbone, inputs, problems, "text", QUICK, workers)
    assert [comparable(one) for one in alone] == [comparable(one) for one in together]
    second = fine_tune(backbone, inputs, problems[1], "text", QUICK, seed=1).result
    assert comparable(alone[1]) == comparable(second)
    (later,) = fine_tune_splits(backbone, inputs, {1: problems[1]}, "text", QUICK)
    assert comparable(later) == comparable(second)


def test_the_given_backbone_and_the_towers_that_are_not_read_stay_as_they_are(
    backbone, inputs, problem
):
    before = weights_of(backbone)
    tuned = fine_tune(backbone, inputs, problem, "fused_text", QUICK).model.backbone
    assert not changed(before, weights_of(backbone))
    moved = changed(before, weights_of(tuned))
    assert any(name.startswith("encoders.text.") for name in moved)
    assert any(name.startswith("fusion.") for name in moved)
    assert not any("image" in name or "audio" in name for name in moved)
    single = fine_tune(backbone, inputs, problem, "text", QUICK).model.backbone
    assert {name.split(".")[1] for name in changed(before, weights_of(single))} == {"text"}


def test_a_learning_rate_of_zero_leaves_the_backbones_bytes(backbone, inputs, problem):
    config = replace(QUICK, backbone_lr=0.0, weight_decay=0.5)
    tuned = fine_tune(backbone, inputs, problem, "fused", config)
    assert not changed(weights_of(backbone), weights_of(tuned.model.backbone))
    assert bool(tuned.model.head.weight.any())


def test_batch_norms_keep_their_running_statistics_and_learn_their_gains(sample_shards, inputs):
    made = make_backbone(sample_shards, image="resnet18")
    (problem,) = make_problems(inputs)
    problem = replace(problem, split=problem.split.restricted_to(inputs.samples.has("image")))
    given = replace(inputs, made_by=recipe(made))
    tuned = fine_tune(made, given, problem, "image", replace(QUICK, epochs=1)).model
    moved = changed(weights_of(made), weights_of(tuned.backbone))
    assert any("normalization.weight" in name for name in moved)
    assert not any("running" in name or "num_batches" in name for name in moved)


@pytest.mark.parametrize("fusion", ["concat", "attention", "graph", "cross_attention"])
def test_a_tower_that_is_not_read_is_never_run_and_changes_nothing(
    sample_shards, inputs, monkeypatch, fusion
):
    made = make_backbone(sample_shards, fusion=fusion)
    given = replace(inputs, made_by=recipe(made))
    rows = np.arange(NUM)
    model = TunedModel(made, "fused", given, 3, 0.0).eval()
    present = given.present(rows, "fused")
    read = given.rows(rows, "fused", torch.device("cpu"))
    sound = replace(read, log_mel=torch.zeros(NUM, made.stats.log_mel.num_mels, 101))
    expected = made.fuse(made.embed(sound), present)
    monkeypatch.setattr(made.encoders["audio"], "forward", None)
    torch.testing.assert_close(model.represent(read, present), expected, rtol=1e-4, atol=1e-5)


def test_a_masked_modality_is_one_that_the_samples_do_not_have(backbone, inputs, problem):
    tuned = fine_tune(backbone, inputs, problem, "fused", QUICK)
    test = problem.split.test
    present = inputs.present(test, "fused")
    present[:, 0] = False
    rows = test[present.any(1).numpy()]
    assert tuned.result.masked["text"].num_samples == len(rows) < len(test)
    with torch.no_grad():
        read = inputs.rows(rows, "fused", torch.device("cpu"))
        outputs = tuned.model(read, present[present.any(1)])
    expected = problem.score(rows, outputs.argmax(1).numpy())
    assert tuned.result.masked["text"].scores == expected
    assert not fine_tune(backbone, inputs, problem, "text", QUICK).result.masked


def test_head_and_backbone_have_rates_of_their_own_and_vectors_do_not_decay(backbone, inputs):
    config = replace(QUICK, warmup_fraction=0.5)
    optimizer = build_optimizer(TunedModel(backbone, "text", inputs, 3, 0.0), config)
    set_rates(optimizer, 0, 8, config)
    assert {group["lr"] for group in optimizer.param_groups} == {3e-2 / 4, 3e-3 / 4}
    set_rates(optimizer, 4, 8, config)
    assert {group["lr"] for group in optimizer.param_groups} == {3e-2, 3e-3}
    set_rates(optimizer, 8, 8, config)
    assert {group["lr"] for group in optimizer.param_groups} == {0.0}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] > 0.0) == (parameter.ndim > 1)


def test_predictions_that_fall_on_one_class_are_told_with_the_cure(backbone, inputs, problem):
    good = fine_tune(backbone, inputs, problem, "text", replace(QUICK, epochs=8)).result
    card = replace(sample_topics_card(), classes=("a", "b", "c"))
    assert not list(tuned_findings("text", card, [problem], [good]))
    for part, rows in (("scores", problem.split.test), ("validation", problem.split.validation)):
        constant = problem.score(rows, np.ones(len(rows), dtype=np.int64))
        told = list(tuned_findings("text", card, [problem], [replace(good, **{part: constant})]))
        assert told[0].startswith("text: nearly all predictions fall on one class ('b' in 1 of 1")
        assert "lower --finetune.backbone-lr" in told[0]
        assert "smaller model" in told[0]


def test_a_torn_group_a_missing_class_and_foreign_inputs_are_refused(
    sample_shards, backbone, inputs, problem
):
    torn = replace(problem, groups=tuple("g" for _ in problem.groups))
    with pytest.raises(ValueError, match="1 groups lie in more than one part"):
        fine_tune(backbone, inputs, torn, "text", QUICK)
    with pytest.raises(ValueError, match="no training row has the class 3"):
        fine_tune(backbone, inputs, replace(problem, num_classes=4), "text", QUICK)
    with pytest.raises(ValueError, match="another preprocessing"):
        fine_tune(backbone, replace(inputs, made_by="other"), problem, "text", QUICK)
    with pytest.raises(ValueError, match="audio: the inputs hold text, image alone"):
        fine_tune(backbone, inputs, problem, "audio", QUICK)


def test_weights_that_leave_the_finite_numbers_end_it_with_the_cure(backbone, inputs, problem):
    config = replace(QUICK, optimizer="sgd", backbone_lr=1e30, max_gradient_norm=None)
    with pytest.raises(ValueError, match=r"lower finetune\.backbone_lr"):
        fine_tune(backbone, inputs, problem, "image", config)
