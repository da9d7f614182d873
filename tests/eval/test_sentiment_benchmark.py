"""The tables on labelled sets: rows, verdict, how sets are read; no backbone is needed."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import sentiment
import systems
import text_image
from quality_table import Cell
from sentiment import SentimentRow, met, rows_won_and_lost, table_markdown
from sentiment_tasks import CLASSES, TASKS, import_meld

from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from eval.comparison import summarise
from eval.finetune.report import MaskedScores
from eval.representations import REPRESENTATIONS
from tiny_pages import fine_tune


def row(frozen, trained_on):
    """A row whose gains over five splits are these, give or take a hair."""
    gains = {"frozen": frozen, "trained on": trained_on}
    wobble = (-0.002, -0.001, 0.0, 0.001, 0.002)
    cells = {
        column: Cell(mean=30.0 + place, sd=1.0, seeds=(30.0,))
        for place, column in enumerate(sentiment.COLUMNS)
    }
    return SentimentRow(
        task="mvsa",
        label="sentiment",
        representation="fused_text_image",
        num_samples=3_000,
        cells=cells,
        gains={
            kind: summarise([gain + part for part in wobble], 0.5) for kind, gain in gains.items()
        },
    )


def test_a_gain_counts_only_where_its_interval_leaves_zero():
    rows = [row(0.05, 0.0), row(0.0, 0.0), row(-0.05, 0.05)]
    assert rows_won_and_lost(rows, "frozen") == (1, 1)
    assert rows_won_and_lost(rows, "trained on") == (1, 0)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([(0.05, 0.05), (0.0, 0.0)], True),
        ([(0.05, 0.05), (-0.05, 0.0)], False),
        ([(0.05, 0.0)], False),
        ([(0.05, -0.05)], False),
    ],
)
def test_the_check_asks_for_more_rows_won_than_lost_both_ways(gains, expected):
    assert met([row(*pair) for pair in gains]) is expected


def test_the_table_shows_every_column_the_best_one_bold_and_the_gains_with_intervals():
    lines = table_markdown([row(0.05, -0.05)]).splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells[0] == "mvsa sentiment, text + image"
    assert cells[2] == "30.0 ± 1.0"
    assert cells[7] == "**35.0 ± 1.0**"
    assert cells[8].startswith("+5.0 [+4.8, +5.2")
    assert lines[-1].endswith(
        "frozen: above zero on 1, below on 0 of 1 rows; "
        "trained on: above zero on 0, below on 1 of 1 rows."
    )


def test_a_column_that_was_not_measured_is_empty_and_gains_nothing():
    whole = row(0.05, -0.05)
    cells = {name: found for name, found in whole.cells.items() if name != "from scratch"}
    part = replace(whole, cells=cells, gains={"frozen": whole.gains["frozen"]})
    lines = table_markdown([whole, part]).splitlines()
    measured, absent = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4]
    )
    assert [one for one, other in zip(measured, absent, strict=True) if one != other] == [
        measured[6],
        measured[9],
    ]
    assert absent[6] == absent[9] == ""
    assert lines[-1].endswith("trained on: above zero on 0, below on 1 of 1 rows.")


def test_a_modality_that_could_not_be_masked_leaves_its_cell_empty():
    made = fine_tune(100)
    both = made.representations["fused"]
    scores = {name: summarise([0.6, 0.7], 0.5) for name in ("accuracy", "macro_f1")}
    part = replace(both, metrics=scores, constant=scores, confusion=((3, 1), (1, 4)), masked={})
    masked = {"image": MaskedScores(metrics=scores, num_samples=(3, 3))}
    report = replace(
        made,
        task={**made.task, "classes": ["glad", "sad"]},
        representations={
            "fused_text_image": replace(part, masked=masked),
            "text": part,
            "image": part,
        },
    )
    rows = [line for line in text_image.markdown({"arm": report}).splitlines() if "| arm" in line]
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    known = "65.0 ± 7.1 / 65.0 ± 7.1"
    assert cells == ["arm", known, known, known, known, ""]


@pytest.mark.parametrize("table", [sentiment, systems, text_image])
def test_every_table_shares_its_folder_and_names_its_steps(table):
    usual, given = table.parse([]), table.parse(["--out", "x", "--steps", "3", "--write-readme"])
    assert (usual.out.name, usual.write_readme) == ("quality-run", False)
    assert (given.out, given.steps, given.write_readme) == (Path("x"), 3, True)
    assert usual.data == given.data
    assert usual.steps > 3


def test_what_the_table_reads_are_representations_that_there_are():
    for task in TASKS:
        assert set(task.representations) <= set(REPRESENTATIONS)
    assert len(TASKS[-1].representations) == 7  # every subset of three modalities


def test_dialogues_of_two_parts_with_one_number_are_two_groups(tmp_path):
    for part in ("train", "dev"):
        with (tmp_path / f"{part}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("id", "text", "speaker", "emotion", "sentiment"))
            for number, label in enumerate(CLASSES):
                words = f"{part} sentence number {number} of this dialogue"
                writer.writerow((f"dia{number}_utt0", words, "A", "joy", label))
    import_meld(tmp_path, tmp_path / "task")
    card = json.loads((tmp_path / "task" / "task.json").read_text())
    assert card["classes"] == list(CLASSES)
    reader = ShardReader((ShardSet.open(tmp_path / "task"),))
    samples = [reader.read(place, ("json",)).members["json"] for place in range(len(reader))]
    reader.close()
    groups = {json.loads(bytes(sample))["metadata"]["group"] for sample in samples}
    assert groups == {f"{part}_dia{number}" for part in ("train", "dev") for number in range(3)}
