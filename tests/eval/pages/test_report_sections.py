"""Tables of a run's report whose right answer is known."""

import json

import pytest

from eval.pages.modality_table import EFFECTS, modality_table
from eval.pages.others_table import others_table
from eval.pages.retrieval_record import read_retrievals
from eval.pages.run_record import read_run
from eval.pages.tuned_section import tuned_sections
from eval.records import write_json
from tiny_pages import fine_tune, probes, retrieval
from tiny_probes import BASE, DIGEST, SIZES, report, shifted, subset


def test_what_a_missing_modality_costs_is_the_paired_difference():
    parts = [
        subset("fused_text", shifted(-0.1)),
        subset("fused_image", shifted(-0.001)),
        subset("fused_text_image", list(BASE)),
        subset("text", list(BASE)),
    ]
    table = modality_table(report(parts))
    rows = {row.name: row for row in table.rows}
    assert rows["fused_text"].lost.mean == pytest.approx(0.1)
    assert rows["fused_text"].effect == "costs"
    assert rows["fused_image"].effect == "not told apart"
    assert rows["fused_text_image"].lost is None
    assert list(table.alone) == ["text"]
    assert "--rows shared" not in table.note
    assert "nothing is corrected for their number" in table.note


def test_a_modality_that_one_is_better_off_without_is_no_success():
    parts = [subset("fused_text", shifted(0.1)), subset("fused_text_image", list(BASE))]
    (row, _) = modality_table(report(parts)).rows
    assert row.lost.mean == pytest.approx(-0.1)
    assert row.effect == "gains"
    assert EFFECTS[row.effect] != EFFECTS["costs"] == "yes"


def test_too_few_splits_tell_no_effect_of_a_missing_modality():
    parts = [subset("fused_text", shifted(0.1)[:9]), subset("fused_text_image", list(BASE)[:9])]
    assert modality_table(report(parts)).rows[0].effect == "no verdict"


def test_what_was_scored_on_other_samples_is_not_subtracted():
    more = SIZES | {"train": 80}
    parts = [subset("fused_text", list(BASE), sizes=more), subset("fused_text_image", list(BASE))]
    table = modality_table(report(parts))
    assert [row.lost for row in table.rows] == [None, None]
    assert "--rows shared" in table.note


def test_a_subset_that_is_no_part_of_the_largest_is_not_subtracted():
    parts = [subset("fused_audio", list(BASE)), subset("fused_text_image", list(BASE))]
    table = modality_table(report(parts))
    assert [row.lost for row in table.rows] == [None, None]
    assert "--rows shared" not in table.note
    assert "name the fusion of all in --representations" in table.note


def test_one_fused_subset_alone_is_no_table():
    assert modality_table(report([subset("fused_text", list(BASE))])) is None


def test_other_probes_stand_beside_the_linear_one_and_what_is_missing_is_said():
    table = others_table(probes(100))
    assert table.columns == ("linear", "knn", "attentive", "few-shot 1 %")
    assert "late" not in table.rows
    assert "no knn of late: it has no features of its own" in table.note
    assert "whole validation part" in table.note
    assert others_table(report([subset("text", list(BASE))])) is None


def test_fine_tuned_scores_are_told_with_their_floor_and_without_a_modality():
    (section,) = tuned_sections([fine_tune(100), fine_tune(200)])
    assert section.report.checkpoint["step"] == 200
    assert [(line.name, line.score, line.constant, line.epochs) for line in section.lines] == [
        ("fused", "63.0 ± 2.8", "10.0 ± 0.0", "1 to 2"),
        ("fused without text", "63.0 ± 2.8", "", ""),
    ]


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for step, value in ((100, 0.2), (200, 0.4)):
        folder = tmp_path / "retrieval" / f"step-{step:08d}"
        write_json(folder / "mood-abababab-12345678.json", retrieval(value))
    first = tmp_path / "retrieval" / "step-00000100" / "mood-abababab-87654321.json"
    write_json(first, retrieval(0.3))
    return tmp_path


def test_the_newest_answer_to_each_question_of_retrieval_is_shown(run):
    found = read_retrievals(run, {})
    assert [(one.samples, one.checkpoint) for one in found] == [
        ("mood", "step-00000200"),
        ("mood", "step-00000100"),
    ]
    assert found[0].directions["text_to_image"].recall["1"].value == 0.4
    assert found[0].cutoffs == ["1", "10"]
    assert "recall at 10" in found[0].forest()


def test_an_answer_by_weights_that_were_replaced_is_left_out(run):
    digests = {"step-00000200": "ef" * 32, "step-00000100": DIGEST}
    assert {one.checkpoint for one in read_retrievals(run, digests)} == {"step-00000100"}


@pytest.mark.parametrize(
    "broken",
    [
        {"format": 9},
        {"directions": {"text_to_image": {}}},
        {"directions": {}},
        {"protocol": {"cutoffs": [1, 5]}},
        {"protocol": {"cutoffs": []}},
        {"protocol": {}},
        {"num_samples": "many"},
        {"seen_in_pretraining": [1]},
    ],
)
def test_a_retrieval_report_that_cannot_be_read_is_named(run, broken):
    path = run / "retrieval" / "step-00000200" / "mood-abababab-12345678.json"
    write_json(path, json.loads(path.read_text()) | broken)
    with pytest.raises(ValueError, match=r"mood-abababab-12345678\.json.*retrieve again"):
        read_run(run)
