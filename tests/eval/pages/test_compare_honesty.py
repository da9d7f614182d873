"""What a comparison of runs must not claim, and what it must say beside its numbers."""

import dataclasses
import sys

import pytest

from eval.pages.compare_runs import compare_runs
from eval.pages.runs_page import render_comparison
from eval.pages.runs_table import format_comparison, format_markdown
from launch.compare_command import compare_command
from tiny_probes import BASE, report, shifted, subset, write_run

TOLD = (format_comparison, format_markdown, render_comparison)


def mood(by=0.0, seen=0, findings=(), **changed):
    made = report([subset("text", shifted(by) if by else list(BASE))], **changed)
    found = {"checked": True, "num_tested": 30, "num_seen": seen}
    found["seen_by_modality"] = {"text": seen, "image": 0, "audio": 0}
    return dataclasses.replace(made, contamination=found, findings=tuple(findings))


def compared(tmp_path, *reports):
    runs = [write_run(tmp_path / f"run{place}", one) for place, one in enumerate(reports)]
    return compare_runs(runs, which="newest")


def weights(made, digest):
    return dataclasses.replace(made, checkpoint=made.checkpoint | {"digest": digest})


@pytest.mark.parametrize("by", [0.2, -0.2])
@pytest.mark.parametrize("seen", [(0, 7), (7, 0), (7, 7)])
def test_a_run_that_has_seen_test_samples_neither_wins_nor_loses(tmp_path, by, seen):
    comparison = compared(tmp_path, mood(seen=seen[0]), mood(by, seen=seen[1]))
    found = comparison.tables[0].differences["text"]["run1"]
    assert (found.verdict, found.p_corrected) == ("open", None)
    assert "has seen the text of 7 of 30 test samples" in found.reason
    assert f"run{0 if seen[0] else 1}" in found.reason
    for told in TOLD:
        assert "has seen the text of 7 of 30 test samples" in " ".join(told(comparison).split())


def test_a_run_that_has_seen_none_is_judged_beside_one_that_has(tmp_path):
    comparison = compared(tmp_path, mood(), mood(0.2, seen=7), mood(0.2))
    found = comparison.tables[0].differences["text"]
    assert [one.verdict for one in found.values()] == ["open", "better"]
    assert found["run2"].p_corrected == found["run2"].paired.p  # one hypothesis, not two


def test_what_was_seen_of_one_modality_withholds_nothing_of_another(tmp_path):
    names = ("text", "image", "audio", "fused", "fused_image_audio", "late")
    sets = [
        dataclasses.replace(
            report([subset(name, values) for name in names]),
            contamination={
                "checked": True,
                "num_tested": 30,
                "num_seen": 9,
                "seen_by_modality": {"text": 7, "image": 0, "audio": seen},
            },
        )
        for values, seen in ((list(BASE), 0), (shifted(0.2), 2))
    ]
    (table,) = compared(tmp_path, *sets).tables
    found = {name: table.differences[name]["run1"] for name in names}
    judged = [name for name, one in found.items() if one.verdict == "better"]
    assert judged == ["image"]
    told = {name: one.reason.partition(" has seen ")[2] for name, one in found.items()}
    assert told["text"] == told["fused"] == told["late"] == "the text of 7 of 30 test samples"
    assert told["audio"] == told["fused_image_audio"] == "the audio of 2 of 30 test samples"
    assert found["fused"].reason.startswith("pretraining of run0 ")
    assert found["audio"].reason.startswith("pretraining of run1 ")


NUMBERS = {"metric": "mae", "classes": [], "label_range": [-3.0, 3.0]}
OTHER_TASK = {
    "mae": "scored by mae (less is better): another task than that scored by macro-f1 in %",
    "macro_f1": "scored by macro-f1 in %: another task than that scored by mae (less is better)",
}


def numbers(by=0.0):
    """Mean absolute errors of a task that has the name of the other one."""
    return report([subset("text", shifted(by), metric="mae")], task=NUMBERS)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_task_of_that_name_with_numbers_hinders_no_comparison_of_others(tmp_path, place):
    order = [mood(), mood(0.2)]
    order.insert(place, numbers())
    comparison = compared(tmp_path, *order)
    (table,) = comparison.tables
    first, second = [f"run{number}" for number in range(3) if number != place]
    assert list(table.answers) == [first, second]
    assert table.differences["text"][second].verdict == "better"
    assert table.left_out == {}
    assert comparison.alone == {f"run{place}": (f"mood (linear; {OTHER_TASK['mae']})",)}
    for form in TOLD:
        assert OTHER_TASK["mae"] in " ".join(form(comparison).replace("\\", "").split())


def test_two_tasks_of_one_name_have_a_table_for_each_metric(tmp_path):
    comparison = compared(tmp_path, mood(), numbers(), numbers(-0.2), mood(0.2))
    assert comparison.alone == {}
    found = {table.metric: table for table in comparison.tables}
    assert list(found) == ["macro_f1", "mae"]
    verdicts = [found[metric].differences["text"] for metric in found]
    assert [{run: one.verdict for run, one in each.items()} for each in verdicts] == [
        {"run3": "better"},
        {"run2": "better"},
    ]
    for form in TOLD:
        text = " ".join(form(comparison).split())
        assert "mood: macro-f1 in %, mean" in text.replace("\\", "")
        assert "mood: mae (less is better), mean" in text


def test_where_only_tasks_of_another_metric_are_shared_it_is_said_why_nothing_is(tmp_path):
    with pytest.raises(ValueError, match="no task that two of the runs") as refusal:
        compared(tmp_path, mood(), numbers())
    for run, metric in (("run0", "macro_f1"), ("run1", "mae")):
        assert f"{run}: mood (linear; {OTHER_TASK[metric]})" in str(refusal.value)


def test_a_run_that_shares_no_representation_is_told_and_has_no_table_of_nothing(tmp_path):
    pictures = report([subset("image", list(BASE))])
    comparison = compared(tmp_path, mood(), pictures, mood(0.2))
    (table,) = comparison.tables
    assert (list(table.answers), table.names) == (["run0", "run2"], ("text",))
    told = "mood (linear; image alone, which no other run has)"
    assert comparison.alone == {"run1": (told,)}
    for form in TOLD:
        assert told in " ".join(form(comparison).split())
    with pytest.raises(ValueError, match=r"run0: mood .linear; text alone.*run1: mood .linear; im"):
        compared(tmp_path / "two", mood(), pictures)


@pytest.mark.parametrize(
    ("group", "told"), [("speaker", "10 group-wise splits,"), (None, "10 random splits,")]
)
def test_splits_are_group_wise_where_the_task_has_groups(tmp_path, group, told):
    card = {"group_key": group}
    comparison = compared(tmp_path, mood(task=card), mood(0.1, task=card))
    for form in TOLD:
        assert told in " ".join(form(comparison).split())


def test_what_each_probe_has_found_is_told_in_every_form(tmp_path):
    sentence = "text: 81 % of the predictions are <b>sad</b> [red]"
    comparison = compared(tmp_path, mood(), mood(findings=[sentence]))
    assert f"run1: {sentence}" in format_comparison(comparison)
    assert r"- run1: text: 81 % of the predictions are &lt;b>sad" in format_markdown(comparison)
    assert "run1: text: 81 % of the predictions are &lt;b&gt;sad" in render_comparison(comparison)


def test_runs_of_the_same_weights_are_told(tmp_path):
    first, same, other = mood(), mood(0.1), weights(mood(0.2), "cd" * 32)
    comparison = compared(tmp_path, first, same, other)
    for told in TOLD:
        assert "run0, run1: the very same weights (abababababab)" in told(comparison)
    assert "same weights" not in format_comparison(compared(tmp_path / "two", first, other))


def test_the_number_of_splits_is_told_by_run_where_it_differs(tmp_path):
    fewer = report([subset("text", list(BASE)[:5])])
    comparison = compared(tmp_path, mood(), fewer)
    for told in TOLD:
        text = " ".join(told(comparison).split())
        assert "10 random splits, the interval corrected for their overlap (run0); 5" in text
    equal = format_comparison(compared(tmp_path / "two", mood(), mood(0.1)))
    assert "overlap (run0)" not in " ".join(equal.split())


def test_where_the_shards_differ_it_is_said_what_to_do(tmp_path):
    comparison = compared(tmp_path, mood(), mood(shards="cd" * 32))
    for told in TOLD:
        text = " ".join(told(comparison).split())
        assert "measure both on one task folder (triptych probe RUN FOLDER)" in text


def test_an_interval_is_the_one_measure_of_spread(tmp_path):
    comparison = compared(tmp_path, mood(), mood(0.1))
    for told in TOLD:
        assert "±" not in told(comparison)


@pytest.mark.parametrize("name", ["lr[red]1e-3", ":smile:", "a\\"])
def test_a_run_with_any_name_keeps_it(tmp_path, name):
    runs = [write_run(tmp_path / one, mood(by)) for one, by in ((name, 0.0), ("b", 0.1))]
    first, *rest = format_comparison(compare_runs(runs, which="newest")).splitlines()
    assert first.endswith(f"compared with {name}")
    assert any(line.split()[:2] == ["text", name] for line in rest)


def test_a_broken_map_does_not_hinder_a_comparison(tmp_path):
    runs = [write_run(tmp_path / name, mood(by)) for name, by in (("a", 0.0), ("b", 0.1))]
    path = runs[1] / "maps" / "step-00000100" / "mood.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert compare_runs(runs, which="newest").tables[0].name == "mood"


def test_a_checkpoint_folder_is_not_compared(tmp_path):
    run = write_run(tmp_path / "run", mood())
    folder = run / "checkpoints" / "step-00000100"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "COMPLETE").touch()
    with pytest.raises(ValueError, match=r"it is a checkpoint.*give the run folder"):
        compare_runs([run, folder], which="newest")


class Closed:
    """A reader that has gone away."""

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        pass


def test_the_page_is_there_though_nobody_reads_what_is_printed(tmp_path, monkeypatch):
    runs = [str(write_run(tmp_path / name, mood())) for name in ("a", "b")]
    page = tmp_path / "runs.html"
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        compare_command([*runs, "--checkpoint", "newest", "--out", str(page)])
    assert "a, b" in page.read_text()
