"""Runs compared by fine-tuned models, by the rule that linear probes have."""

import dataclasses

import pytest

from eval.comparison import summarise
from eval.finetune.report import REPORTS_FOLDER, FineTuneReport, TunedScores
from eval.finetune.tune import Epoch
from eval.pages.compare_runs import compare_runs
from eval.pages.runs_page import render_comparison
from eval.pages.runs_table import format_comparison, format_markdown
from eval.records import read_json, write_json
from eval.representations import modalities_of
from launch.compare_command import compare_command
from tiny_probes import BASE, SHARE, SIZES, report, shifted, subset, whole_checkpoint, write_run

TOLD = (format_comparison, format_markdown, render_comparison)
SEEN = {
    "checked": True,
    "num_tested": 30,
    "num_seen": 7,
    "seen_by_modality": {"text": 7, "image": 0, "audio": 0},
}
UNREAD = {"checked": False, "reason": "the pretraining shards cannot be read any more"}
CLEAN = SEEN | {"num_seen": 0, "seen_by_modality": {"text": 0, "image": 0, "audio": 0}}


def tuned(values, names=("text",), step=100, options=None, **changed):
    """A fine-tuning report whose models of each representation have these scores."""
    mood = report([subset("text", list(values))], step=step, **changed)
    metric, count = mood.task["metric"], len(values)
    epoch = Epoch(loss=0.5, validation=0.6)
    parts = {
        name: TunedScores(
            modalities=modalities_of(name),
            split_sizes=(SIZES,) * count,
            metrics={metric: summarise(values, SHARE)},
            constant={metric: summarise([0.1] * count, SHARE)},
            undefined={},
            confusion=(),
            validation=(0.6,) * count,
            epochs=(1,) * count,
            curves=((epoch,),) * count,
            masked={},
        )
        for name in names
    }
    return FineTuneReport(
        task=mood.task,
        checkpoint=mood.checkpoint,
        shards=mood.shards,
        protocol={
            "finetune": {"optimizer": "adamw", "epochs": 6} | (options or {}),
            "splits": {"num_splits": count, "seed": 0},
            "representations": list(names),
            "copies": "refuse",
        },
        representations=parts,
        missing={},
        findings=("text: one finding",),
    )


def write_tuned(run, *reports):
    for found in reports:
        path = run / REPORTS_FOLDER / found.checkpoint["name"] / f"{found.task['name']}.json"
        write_json(path, found.to_json())
    return run


def probed(values=BASE, contamination=CLEAN, **changed):
    made = report([subset(name, list(values)) for name in ("text", "image")], **changed)
    return dataclasses.replace(made, contamination=contamination)


def compared(tmp_path, *reports, probes=None):
    """Runs with equal probes, fine-tuned as given."""
    runs = [
        write_tuned(write_run(tmp_path / f"run{place}", probes or probed()), one)
        for place, one in enumerate(reports)
    ]
    return compare_runs(runs, which="newest")


def table_of(comparison, method):
    (found,) = [table for table in comparison.tables if table.method == method]
    return found


@pytest.mark.parametrize(
    ("by", "splits", "verdict"),
    [(0.05, 10, "better"), (-0.05, 10, "worse"), (0.001, 10, "within"), (0.3, 5, "open")],
)
def test_fine_tuned_models_are_paired_split_by_split_as_probes_are(tmp_path, by, splits, verdict):
    comparison = compared(tmp_path, tuned(BASE[:splits]), tuned(shifted(by)[:splits]))
    found = table_of(comparison, "fine-tuned").differences["text"]["run1"]
    assert found.verdict == verdict
    assert found.paired.gain.mean == pytest.approx(by, abs=0.003)
    assert table_of(comparison, "linear").differences["text"]["run1"].verdict == "within"
    if verdict == "open":
        assert "5 splits, at least 10 are needed" in found.reason


def test_every_form_shows_the_fine_tuned_scores_with_their_floor_and_findings(tmp_path):
    comparison = compared(tmp_path, tuned(BASE), tuned(shifted(0.05)))
    for form in TOLD:
        text = " ".join(form(comparison).replace("\\", "").split())
        for words in (
            "mood, fine-tuned: macro-f1 in %, mean over 10 random splits",
            "+5.0",
            "10.0",
            "run1 against run0: better: the difference exceeds its interval: text",
            "run1: text: one finding",
        ):
            assert words in text
        assert "pretraining has seen test samples is not known" not in text


def test_splits_of_fine_tuned_models_are_group_wise_where_the_task_has_groups(tmp_path):
    card = {"task": {"group_key": "speaker"}}
    comparison = compared(tmp_path, tuned(BASE, **card), tuned(BASE, **card))
    (over,) = {one.over for one in table_of(comparison, "fine-tuned").answers.values()}
    assert over == "10 group-wise splits, the interval corrected for their overlap"


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"options": {"epochs": 9}}, "other protocols (finetune.epochs)"),
        ({"shards": "cd" * 32}, "(triptych finetune RUN FOLDER)"),
        ({"task": {"classes": ["sad", "glad"]}}, "other cards (classes)"),
        ({"values": shifted(0.3)[:9]}, "other protocols (splits.num_splits)"),
    ],
)
def test_models_tuned_otherwise_are_not_compared_and_it_is_said_why(tmp_path, changed, named):
    comparison = compared(tmp_path, tuned(BASE), tuned(**({"values": shifted(0.3)} | changed)))
    found = table_of(comparison, "fine-tuned").differences["text"]["run1"]
    assert (found.verdict, found.paired) == ("unlike", None)
    assert named in found.reason
    assert table_of(comparison, "linear").differences["text"]["run1"].verdict == "within"


def test_which_representations_were_tuned_besides_is_no_reason_not_to_compare(tmp_path):
    comparison = compared(tmp_path, tuned(BASE), tuned(shifted(0.1), names=("image", "text")))
    table = table_of(comparison, "fine-tuned")
    assert table.names == ("text",)
    assert table.differences["text"]["run1"].verdict == "better"


def test_fine_tuned_models_on_a_fixed_test_part_have_no_verdict(tmp_path):
    fixed = {"task": {"fixed_parts": ["train", "valid", "test"]}}
    comparison = compared(tmp_path, tuned(BASE, **fixed), tuned(shifted(0.3), **fixed))
    found = table_of(comparison, "fine-tuned").differences["text"]["run1"]
    assert found.verdict == "open"
    assert "no interval on a test part that its authors fixed" in found.reason
    assert "draws of the authors' training groups" in format_comparison(comparison)


def test_what_pretraining_has_seen_withholds_the_verdict_on_tuned_models_too(tmp_path):
    names = ("text", "image")
    comparison = compared(
        tmp_path, tuned(BASE, names), tuned(shifted(0.3), names), probes=probed(contamination=SEEN)
    )
    found = table_of(comparison, "fine-tuned").differences
    assert found["text"]["run1"].verdict == "open"
    assert "has seen the text of 7 of 30 test samples" in found["text"]["run1"].reason
    assert found["image"]["run1"].verdict == "better"


def test_where_nobody_looked_at_the_pretraining_shards_it_is_said(tmp_path):
    elsewhere = probed(shards="ef" * 32)  # says nothing of the shards that were tuned on
    for name, probes, why in (
        ("a", elsewhere, "a probe of the run on these shards looks"),
        ("b", probed(contamination=UNREAD), "cannot be read any more"),
    ):
        comparison = compared(tmp_path / name, tuned(BASE), tuned(shifted(0.3)), probes=probes)
        for form in TOLD:
            text = " ".join(form(comparison).split())
            assert "run1: whether pretraining has seen test samples is not known" in text
            assert why in text


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ((SEEN, UNREAD), "open"),
        ((UNREAD, SEEN), "open"),
        ((CLEAN, UNREAD), "better"),
        ((SEEN, CLEAN, UNREAD), "better"),
        ((CLEAN, SEEN), "open"),
    ],
)
def test_the_newest_probe_that_looked_tells_what_pretraining_has_seen(tmp_path, told, verdict):
    """By probes of these checkpoints, in the order of their steps; the models are of another."""
    first = write_tuned(write_run(tmp_path / "a", probed()), tuned(BASE))
    probes = [probed(contamination=one, step=200 + place) for place, one in enumerate(told)]
    second = write_tuned(write_run(tmp_path / "b", *probes), tuned(shifted(0.3), step=300))
    table = table_of(compare_runs([first, second], which="newest"), "fine-tuned")
    found = table.differences["text"]["b"]
    assert found.verdict == verdict
    assert ("has seen the text of 7 of 30 test samples" in found.reason) == (verdict == "open")
    assert not any("is not known" in sentence for sentence in table.answers["b"].findings)


@pytest.mark.parametrize(("own", "verdict"), [(SEEN, "open"), (UNREAD, "better")])
def test_a_look_for_the_tuned_checkpoint_itself_counts_before_a_newer_one(tmp_path, own, verdict):
    runs = [write_tuned(write_run(tmp_path / "a", probed()), tuned(BASE))]
    run, tells = tmp_path / "b", {100: own, 200: CLEAN}
    for step, value in ((100, 0.9), (200, 0.4)):  # the first is the best
        digest = {"digest": whole_checkpoint(run, step)}
        probe = probed([value] * 10, contamination=tells[step], step=step)
        write_run(run, dataclasses.replace(probe, checkpoint=probe.checkpoint | digest))
        one = tuned(shifted(0.3), step=step)
        write_tuned(run, dataclasses.replace(one, checkpoint=one.checkpoint | digest))
    runs.append(run)
    digest = whole_checkpoint(runs[0], 100)
    for path in (runs[0] / "probes", runs[0] / REPORTS_FOLDER):
        record = read_json(path / "step-00000100" / "mood.json")
        record["checkpoint"]["digest"] = digest
        write_json(path / "step-00000100" / "mood.json", record)
    table = table_of(compare_runs(runs), "fine-tuned")
    assert table.answers["b"].checkpoint["name"] == "step-00000100"
    assert table.differences["text"]["b"].verdict == verdict


def test_modality_dropout_hinders_the_comparison_of_fusions_alone(tmp_path):
    names = ("text", "fused_text", "fused_text_image")
    dropped = tuned(shifted(0.3), names, options={"modality_dropout": 0.3})
    table = table_of(compared(tmp_path, tuned(BASE, names), dropped), "fine-tuned")
    found = {name: table.differences[name]["run1"] for name in names}
    assert [found[name].verdict for name in names] == ["better", "better", "unlike"]
    assert found["fused_text_image"].reason == "other protocols (finetune.modality_dropout)"


def test_a_run_that_was_not_tuned_is_named_with_what_to_do(tmp_path):
    runs = [write_run(tmp_path / name, probed()) for name in ("a", "b", "c")]
    for run in runs[:2]:
        write_tuned(run, tuned(BASE))
    table = table_of(compare_runs(runs, which="newest"), "fine-tuned")
    assert table.left_out == {"c": f"not fine-tuned on it: triptych finetune {runs[2]} TASK"}


def test_what_one_run_alone_was_scored_on_is_told_in_every_form(tmp_path):
    runs = [write_run(tmp_path / name, probed()) for name in ("a", "b")]
    write_tuned(runs[1], tuned(BASE))
    comparison = compare_runs(runs, which="newest")
    assert [table.method for table in comparison.tables] == ["linear"]
    for form in TOLD:
        assert "not compared: b was scored on mood (fine-tuned)." in form(comparison)
    assert "not compared" not in format_comparison(
        compared(tmp_path / "both", tuned(BASE), tuned(BASE))
    )


def test_runs_that_were_tuned_and_never_probed_are_compared_by_their_newest(tmp_path, capsys):
    runs = []
    for name, by in (("a", 0.0), ("b", 0.1)):
        run = write_run(tmp_path / name)
        runs.append(write_tuned(run, tuned(shifted(0.3)), tuned(shifted(by), step=200)))
    words = [str(run) for run in runs]
    assert compare_command([*words, "--checkpoint", "newest"]) == 0
    told = capsys.readouterr().out
    assert "step-00000200, 12,800 samples" in told
    assert "+10.0" in told
    with pytest.raises(ValueError, match="no checkpoint was probed"):
        compare_command(words)


def test_of_the_best_checkpoint_its_own_models_count_and_no_others(tmp_path):
    runs = []
    for name, steps in (("a", (100, 200)), ("b", (100,)), ("c", (200,))):
        run = tmp_path / name
        for step, value in ((100, 0.9), (200, 0.4)):  # the first is the best
            digest = {"digest": whole_checkpoint(run, step)}
            probe = probed([value] * 10, step=step)
            write_run(run, dataclasses.replace(probe, checkpoint=probe.checkpoint | digest))
            if step in steps:
                one = tuned(shifted(0.001 * step), step=step)
                write_tuned(run, dataclasses.replace(one, checkpoint=one.checkpoint | digest))
        runs.append(run)
    table = table_of(compare_runs(runs), "fine-tuned")
    names = {run: answer.checkpoint["name"] for run, answer in table.answers.items()}
    assert names == {"a": "step-00000100", "b": "step-00000100"}
    best = runs[2] / "checkpoints" / "step-00000100"
    assert table.left_out == {"c": f"not fine-tuned on it: triptych finetune {best} TASK"}
    assert len(table_of(compare_runs(runs, which="newest"), "fine-tuned").answers) == 3


def test_a_broken_fine_tuning_report_is_named(tmp_path):
    runs = [write_run(tmp_path / name, probed()) for name in ("a", "b")]
    path = write_tuned(runs[0], tuned(BASE)) / REPORTS_FOLDER / "step-00000100" / "mood.json"
    path.write_text('{"format": 1}')
    with pytest.raises(ValueError, match=r"mood\.json: no fine-tuning report.*remove it"):
        compare_runs(runs, which="newest")
