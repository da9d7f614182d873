"""What a fine-tuning report tells of odd sets: brackets in names, splits that differ."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_finetune import QUICK, make_backbone, make_inputs, make_problems

from eval.comparison import summarise
from eval.finetune import fine_tune, format_report
from eval.finetune.report import MaskedScores
from eval.finetune.summary import tuned_findings, tuned_scores
from eval.importers.sample_topics import sample_topics_card
from tiny_pages import fine_tune as made_report


def test_names_with_brackets_are_printed_as_they_are():
    report = made_report(100)
    names = ("[sad]", "[/sad]", ":cat:")
    part = replace(report.representations["fused"], confusion=((3, 1, 0), (0, 4, 0), (1, 0, 5)))
    table = format_report(
        replace(
            report,
            task={**report.task, "name": "[/mood] of [red]", "classes": list(names)},
            representations={"fused": part},
            missing={"audio": "no sample of [/mood] has it"},
            findings=("fused: all fall on ':cat:' [/sad]",),
        )
    )
    for name in (*names, "[/mood] of [red]", "no sample of [/mood]", "on ':cat:' [/sad]"):
        assert name in table


def test_samples_are_told_as_a_range_where_splits_differ():
    report = made_report(100)
    sizes = ({"train": 1000, "validation": 200, "test": 300}, {"train": 9, "test": 1})
    part = replace(report.representations["fused"], split_sizes=sizes)
    without_classes = replace(
        report, task={**report.task, "classes": []}, representations={"fused": part}
    )
    assert "10 to 1,500" in format_report(without_classes)


@pytest.fixture(scope="module")
def two_splits(sample_shards):
    """Fused models of two splits; in the second no test sample has a picture."""
    backbone = make_backbone(sample_shards)
    inputs = make_inputs(backbone, (np.arange(48) % 3).astype(np.int64))
    first, second = make_problems(inputs, 2)
    test = np.arange(0, 48, 8)  # those without a picture
    parts = {
        name: np.setdiff1d(getattr(second.split, name), test) for name in ("train", "validation")
    }
    problems = [first, replace(second, split=replace(second.split, test=test, **parts))]
    quick = replace(QUICK, epochs=1)
    return problems, [fine_tune(backbone, inputs, one, "fused", quick).result for one in problems]


def test_a_modality_whose_absence_leaves_no_test_sample_is_left_out_and_named(two_splits):
    problems, results = two_splits
    card = replace(sample_topics_card(), classes=("a", "b", "c"))
    assert results[1].masked["text"] is None
    assert results[0].masked["text"].num_samples > 0
    scores = tuned_scores(card, problems, results, ("text", "image"))
    assert set(scores.masked) == {"image"}
    assert isinstance(scores.masked["image"], MaskedScores)
    values = [one.masked["image"].scores.macro_f1 for one in results]
    assert scores.masked["image"].metrics["macro_f1"].mean == summarise(values, 0.5).mean
    told = [one for one in tuned_findings("fused", card, problems, results) if "without" in one]
    assert told == [
        "fused: not tested without text: in 1 of 2 splits no test sample has another modality"
    ]
