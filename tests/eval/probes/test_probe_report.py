import dataclasses
import json

import pytest

from eval.probes.probe_report import format_table, report_from_json
from eval.records import read_json, to_json_text, write_json


def test_a_report_comes_back_from_json_as_it_was(make_report):
    report = make_report()
    text = to_json_text(report.to_json())
    again = report_from_json(json.loads(text))
    assert to_json_text(again.to_json()) == text


def test_what_was_learned_beats_and_what_was_not_does_not(make_report):
    subsets = make_report().subsets
    assert subsets["text"].versus_random.beats is True
    assert subsets["image"].versus_random.beats is False
    assert subsets["text"].pretrained.metrics["macro_f1"].mean > 0.7


def test_the_random_floor_is_the_mean_over_its_seeds(make_report):
    part = make_report().subsets["text"]
    mean = sum(part.random_seeds.values()) / len(part.random_seeds)
    assert part.floors["random"].metrics["macro_f1"].mean == pytest.approx(mean)


def test_the_confusion_counts_every_test_sample_of_every_split(make_report):
    part = make_report().subsets["text"]
    tested = sum(sizes["test"] for sizes in part.split_sizes)
    assert sum(map(sum, part.pretrained.confusion)) == tested


def test_the_table_shows_floors_scores_verdicts_and_what_is_missing(make_report):
    report = make_report()
    table = format_table(report)
    for word in ("majority", "shuffled", "TF-IDF", "random", "pretrained", "yes", "no"):
        assert word in table
    assert "audio: no labelled sample of clouds has audio" in table


@pytest.mark.parametrize(
    ("group", "told"), [("speaker", "10 group-wise splits,"), (None, "10 random splits,")]
)
def test_splits_are_told_as_group_wise_where_the_task_has_groups(make_report, group, told):
    report = make_report()
    report = dataclasses.replace(report, task=report.task | {"group_key": group})
    assert f"mean over {told}" in " ".join(format_table(report).split())


def test_names_are_shown_as_they_are_and_not_read_as_markup(make_report):
    report = make_report(task_name="[sad] :cat:")
    found = ("text: 99 % of the predictions are '[/sad]': the probe has fallen on one class",)
    missing = {"audio": "no labelled sample of [sad] has audio"}
    table = format_table(dataclasses.replace(report, findings=found, missing=missing))
    words = " ".join(table.split())
    assert words.startswith("[sad] :cat:: macro-f1 in %")
    assert found[0] in words
    assert "audio: no labelled sample of [sad] has audio" in table
    closing = format_table(make_report(task_name="[/sad]"))
    assert closing.split()[0] == "[/sad]:"


def test_late_fusion_is_a_row_of_its_own_and_is_explained(make_report):
    report = make_report()
    late = report.subsets["late"]
    assert set(late.floors) == {"majority", "shuffled", "random"}
    assert list(late.random_seeds) == ["0", "1"]
    assert late.dim == 32
    words = " ".join(format_table(report).split())
    assert "late: even vote of the modalities' probes" in words


def test_a_report_made_before_late_fusion_is_still_read_and_shown(make_report):
    record = json.loads(to_json_text(make_report().to_json()))
    del record["subsets"]["late"]
    del record["protocol"]["late"]
    older = report_from_json(record)
    assert list(older.subsets) == ["text", "image"]
    assert "late" not in format_table(older)


def test_one_split_leaves_out_intervals_and_verdict_without_nan(make_report):
    report = make_report(num_splits=1)
    text = to_json_text(report.to_json())
    assert "NaN" not in text
    assert report.subsets["text"].versus_random.beats is None
    assert "?" in format_table(report)


def test_nan_never_reaches_json(tmp_path):
    with pytest.raises(ValueError, match=r"scores\.f1\[1\] is nan"):
        write_json(tmp_path / "report.json", {"scores": {"f1": [0.5, float("nan")]}})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"score": 1})
    with pytest.raises(TypeError):
        write_json(path, {"score": object()})
    assert read_json(path) == {"score": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_of_another_format_is_refused(make_report):
    record = make_report(num_splits=1).to_json() | {"format": 99}
    with pytest.raises(ValueError, match="format 99"):
        report_from_json(record)
