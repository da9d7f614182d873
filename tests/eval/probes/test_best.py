import dataclasses
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eval.pages.run_pages import renew_pages
from eval.pages.run_record import read_run
from eval.probes.best import choose_best, validation_score
from eval.probes.probe_report import report_from_json
from eval.records import read_json, write_json
from pretrain.checkpoint import Marker, Progress, open_checkpoint, remove_old
from pretrain.health import Finding, Verdict, save_verdict
from pretrain.metrics import replace_curves

STEPS = (100, 200, 300)


def digest_of(step):
    return f"{step:064d}"


@pytest.fixture(scope="module")
def scored(make_report):
    """A report whose validation scores are given, of any step and task; test scores are not."""

    def made(step, validation, task="clouds", num_splits=10):
        usual = make_report()
        checkpoint = {"name": f"step-{step:08d}", "step": step, "digest": digest_of(step)}
        report = dataclasses.replace(
            usual,
            task={**usual.task, "name": task},
            checkpoint={**usual.checkpoint, **checkpoint},
        )
        text = report.subsets["text"]
        marks = None if validation is None else (validation,) * num_splits
        own = dataclasses.replace(text.pretrained, validation_macro_f1=marks)
        subsets = {"fused": dataclasses.replace(text, pretrained=own)}
        protocol = report.protocol | {"splits": {"num_splits": num_splits}}
        return dataclasses.replace(report, subsets=subsets, protocol=protocol)

    return made


def there(*steps):
    return {digest_of(step): None for step in steps}


def test_where_the_label_is_a_number_the_least_error_is_the_best(scored):
    def with_error(step, error):
        report = scored(step, None)
        own = dataclasses.replace(report.subsets["fused"].pretrained, validation_mae=(error, error))
        fused = dataclasses.replace(report.subsets["fused"], pretrained=own)
        task = {**report.task, "label_range": [-3.0, 3.0]}
        return dataclasses.replace(report, task=task, subsets={"fused": fused})

    reports = [with_error(100, 1.5), with_error(200, 1.2), with_error(300, 1.8)]
    choice = choose_best(reports, [], there(*STEPS))
    assert choice.best is not None
    assert choice.best.step == 200
    assert choice.best.score == pytest.approx(1.0 - 1.2 / 6.0)


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=6, max_size=6), st.randoms())
def test_the_best_is_the_highest_on_validation_whatever_came_first(scored, marks, order):
    reports = [
        scored(step, mark, task)
        for (step, task), mark in zip(
            [(step, task) for step in STEPS for task in ("clouds", "rain")], marks, strict=True
        )
    ]
    expected = choose_best(reports, (), there(*STEPS))
    order.shuffle(reports)
    assert choose_best(reports, (), there(*STEPS)) == expected
    means = {step: sum(marks[2 * at : 2 * at + 2]) / 2 for at, step in enumerate(STEPS)}
    assert means[expected.best.step] == pytest.approx(max(means.values()))


def test_the_earlier_of_equals_is_the_best(scored):
    choice = choose_best([scored(step, 0.5) for step in STEPS[::-1]], (), there(*STEPS))
    assert choice.best.step == 100


def test_test_scores_do_not_count(scored):
    reports = [scored(100, 0.6), scored(200, 0.5)]
    part = reports[1].subsets["fused"]
    better = dataclasses.replace(part.pretrained.metrics["macro_f1"], mean=1.0)
    tested = dataclasses.replace(part.pretrained, metrics={"macro_f1": better})
    subsets = {"fused": dataclasses.replace(part, pretrained=tested)}
    reports[1] = dataclasses.replace(reports[1], subsets=subsets)
    assert choose_best(reports, (), there(100, 200)).best.step == 100


def test_a_checkpoint_that_lacks_a_task_or_is_gone_or_collapsed_is_not_the_best(scored):
    reports = [scored(step, mark) for step, mark in zip(STEPS, (0.9, 0.8, 0.7), strict=True)]
    reports += [scored(step, 0.5, "rain") for step in (200, 300)]
    unfit = there(200, 300) | {digest_of(100): None}
    choice = choose_best(reports, (), unfit)
    assert choice.best.step == 200
    assert [one.left_out for one in choice.candidates] == ["not probed on rain", None, None]
    assert choose_best(reports, ("clouds",), unfit).best.step == 100
    unfit = {digest_of(200): "the run had collapsed", digest_of(300): None}
    choice = choose_best(reports, (), unfit)
    assert choice.best.step == 300
    assert [one.left_out for one in choice.candidates] == [
        "no longer there", "the run had collapsed", None,
    ]  # fmt: skip
    assert "best checkpoint: step-00000300, validation score 60.0 %" in choice.sentence()
    none = choose_best(reports, (), {})
    assert none.best is None
    assert none.sentence() == "no best checkpoint yet: 3 no longer there"


def test_checkpoints_that_were_probed_in_another_way_are_not_compared(scored):
    reports = [scored(100, 0.9, num_splits=5), scored(200, 0.5), scored(300, 0.6)]
    choice = choose_best(reports, (), there(*STEPS))
    assert choice.best.step == 300
    assert choice.candidates[0].left_out == "probed otherwise than most on clouds"


def test_a_report_of_before_validation_scores_is_read_and_does_not_count(make_report):
    record = json.loads(json.dumps(make_report().to_json()))
    for part in record["subsets"].values():
        for scores in (part["pretrained"], *part["floors"].values()):
            del scores["validation_macro_f1"]
    older = report_from_json(record)
    assert validation_score(older) is None
    choice = choose_best([older], (), {older.checkpoint["digest"]: None})
    assert "probe it again" in choice.candidates[0].left_out


def test_a_probe_keeps_what_its_regularisation_was_chosen_by(make_report):
    parts = make_report().subsets
    assert len(parts["text"].pretrained.validation_macro_f1) == 10
    assert sum(parts["text"].pretrained.validation_macro_f1) > 7.0
    assert parts["late"].pretrained.validation_macro_f1 is None
    assert parts["text"].floors["random"].validation_macro_f1 is None


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for step in STEPS:
        folder = tmp_path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        marker = Marker(progress=Progress(step, step), world_size=1, versions={}, files={})
        (folder / "COMPLETE").write_text(marker.to_text())
    return tmp_path


def arrive(run, report):
    digest = open_checkpoint(run / "checkpoints" / report.checkpoint["name"]).digest
    report = dataclasses.replace(report, checkpoint={**report.checkpoint, "digest": digest})
    name = f"{report.task['name']}.json"
    write_json(run / "probes" / report.checkpoint["name"] / name, report.to_json())


def scalars(run, tag):
    events = EventAccumulator(str(run / "tensorboard" / "probes")).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_pages_are_in_step_order_whatever_the_order_of_arrival(run, scored):
    marks = dict(zip(STEPS, (0.5, 0.75, 0.25), strict=True))
    order = list(STEPS)
    random.Random(0).shuffle(order)
    for seen, step in enumerate([300, 100, 200], start=1):
        arrive(run, scored(step, marks[step]))
        renew_pages(run)
        points = scalars(run, "probe/clouds/fused/validation")
        assert [at for at, _ in points] == sorted([300, 100, 200][:seen])
    assert points == [(100, 0.5), (200, 0.75), (300, 0.25)]
    assert len(scalars(run, "probe/clouds/fused/macro_f1")) == 3
    best = read_json(run / "best.json")
    assert best["best"]["name"] == "step-00000200"
    assert "validation" in best["rule"]
    page = (run / "report.html").read_text()
    assert "Best checkpoint: step-00000200, validation score 75.0 %" in page
    # Locks and half-written files are gone.
    assert sorted(path.name for path in (run / "probes").iterdir()) == [
        f"step-{step:08d}" for step in STEPS
    ]


def test_a_tensorboard_that_is_open_shows_each_point_once(tmp_path):
    folder = tmp_path / "tensorboard" / "probes"
    replace_curves(folder, [(3, {"a": 3.0})], scratch=tmp_path)
    watching = EventAccumulator(str(folder)).Reload()
    replace_curves(folder, [(3, {"a": 3.0}), (1, {"a": 1.0})], scratch=tmp_path)
    watching.Reload()
    assert [event.step for event in watching.Scalars("a")] == [1, 3]
    assert list(tmp_path.iterdir()) == [tmp_path / "tensorboard"]
    assert [path.stat().st_size > 0 for path in sorted(folder.iterdir())] == [False, True]
    for number in range(60):
        replace_curves(folder, [(number, {"a": 4.0})], scratch=tmp_path)
    assert len(list(folder.iterdir())) == 51
    assert [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("a")] == [59]


def test_a_collapsed_checkpoint_is_never_named_the_best(run, scored):
    folder = run / "checkpoints" / "step-00000200"
    for step, mark in zip(STEPS, (0.5, 0.75, 0.25), strict=True):
        arrive(run, scored(step, mark))
    finding = Finding(rule="constant", severity="stop", sentence="audio is constant.")
    save_verdict(Verdict(step=200, findings=(finding,)), folder)
    # The verdict is one of the files that COMPLETE vouches for.
    marker = Marker.from_text((folder / "COMPLETE").read_text(), folder)
    from pretrain.checkpoint.files import FileSum

    files = {"health.json": FileSum.of(folder / "health.json")}
    (folder / "COMPLETE").write_text(dataclasses.replace(marker, files=files).to_text())
    arrive(run, scored(200, 0.75))
    choice = read_run(run).choice
    assert choice.best.step == 100
    assert choice.candidates[1].left_out == "the run had collapsed"


def test_the_best_so_far_is_not_removed_however_old_and_is_let_go_for_a_better_one(run, scored):
    arrive(run, scored(100, 0.5))
    renew_pages(run)
    remove_old(run, keep=2, lease_hours=1.0)
    assert len(list((run / "checkpoints").glob("step-????????"))) == 3
    arrive(run, scored(200, 0.75))
    renew_pages(run)
    remove_old(run, keep=2, lease_hours=1.0)
    assert not (run / "checkpoints" / "step-00000100").exists()
    assert [path.name for path in (run / "checkpoints").glob("*.lease-*")] == [
        "step-00000200.lease-best.json"
    ]


def test_a_report_of_weights_that_were_replaced_is_shown_nowhere(run, scored):
    arrive(run, scored(100, 0.5))
    report = scored(200, 0.75)  # its digest is not that of the folder
    write_json(run / "probes" / "step-00000200" / "clouds.json", report.to_json())
    record = read_run(run)
    assert [found.checkpoint["step"] for found in record.probes] == [100]
    assert record.choice.best.step == 100
