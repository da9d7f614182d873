"""Labelled sentiment and emotion sets: floors, frozen features, and fine-tuning, in one table.

    python benchmarks/sentiment.py --write-readme        # an hour; killed, it goes on

Pretrains the `full` arm of `benchmarks/quality.py` (whose folder may be shared: ``--out``) and
reads four sets with it: tweets with pictures, acted speech, utterances of a series, and voice,
face and utterance joined by emotion, which nothing is ever pretrained on. A row is a set and a
subset of its modalities. Its columns, all on the same five group-wise splits, copies dropped:

majority     the commonest class of the training part
raw          n-grams, pixels, log-mel statistics, and a logistic regression
random       frozen features of five fresh backbones of the same architecture
pretrained   frozen features of the pretrained one
from scratch a fresh backbone trained with its head on the labels
fine-tuned   the pretrained one, likewise

Macro-F1 in percent, mean and deviation over the splits. ``--check`` exits with 1 unless the
pretrained backbone beats the majority class on every row, frozen or fine-tuned.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interleaved import RESULTS, exit_code, versions
from quality import REPOSITORY
from quality_arms import Trained, train_arm
from quality_probe import (
    MAJORITY,
    RANDOM,
    Question,
    chapter,
    probe_random,
    probe_raw,
    probe_trained,
)
from quality_readme import write_between
from quality_recipe import VOCAB_SIZE, Length
from quality_table import FULL, Cell, cell, line, seeds_of
from quality_tasks import prepare
from sentiment_tasks import TASKS, SentimentTask, prepare_tasks
from sentiment_tuned import SCRATCH, TUNED, probe_tuned

from eval.finetune.config import FineTuneConfig, describe
from eval.probes.raw_features import RAW
from eval.records import write_json
from eval.tasks import open_task

RESULT = RESULTS / "sentiment.json"
PRETRAINED = "pretrained"
COLUMNS = (MAJORITY, RAW, RANDOM, PRETRAINED, SCRATCH, TUNED)
SEEDS = 5
"""Splits, each with its own seed for the head and the order of samples; and fresh backbones."""


@dataclass(frozen=True, kw_only=True)
class SentimentRow:
    """One set and one subset of its modalities."""

    task: str
    label: str
    representation: str
    num_samples: int
    cells: Mapping[str, Cell]
    """By column, in percent."""


def measure(
    given: SentimentTask, folder: Path, trained: Trained, where: Path
) -> list[SentimentRow]:
    """All columns of one set."""
    question = Question(
        task=open_task(folder), config=given.config(SEEDS, workers=2), folder=where / given.name
    )
    like = trained.backbone
    marks = {
        RAW: probe_raw(question, like),
        **probe_random(question, like, SEEDS),
        PRETRAINED: probe_trained(question, [trained])[trained.name],
        **probe_tuned(question, like, given.epochs),
    }
    any_marks = marks[PRETRAINED]
    rows = []
    for name in given.representations:
        scores = {column: seeds_of(column, name, marks) for column in COLUMNS}
        scores[MAJORITY] = [any_marks.majority[name]]
        rows.append(
            SentimentRow(
                task=given.name,
                label=given.label,
                representation=name,
                num_samples=any_marks.num_samples[name],
                cells={column: cell(found) for column, found in scores.items()},
            )
        )
    return rows


def met(rows: Sequence[SentimentRow]) -> bool:
    """The pretrained backbone knows more than which class is common, on every row."""
    return all(
        max(row.cells[PRETRAINED].mean, row.cells[TUNED].mean) > row.cells[MAJORITY].mean
        for row in rows
    )


def table_markdown(rows: Sequence[SentimentRow]) -> str:
    """The table as README shows it; the best column of a row is bold."""
    heads = ("macro-F1, %", "samples", *COLUMNS)
    lines = [line(heads), line(["---"] * len(heads))]
    for row in rows:
        best = max(found.mean for found in row.cells.values())
        shown = [_show(row.cells[column], best) for column in COLUMNS]
        subset = row.representation.removeprefix("fused_").replace("_", " + ")
        lines.append(line((f"{row.task} {row.label}, {subset}", f"{row.num_samples:,}", *shown)))
    return "\n".join(lines)


def _show(found: Cell, best: float) -> str:
    text = f"{found.mean:.1f} ± {found.sd:.1f}"
    return f"**{text}**" if found.mean == best else text


def result_json(rows: Sequence[SentimentRow], length: Length) -> dict[str, Any]:
    """The table as it is recorded."""
    return {
        "metric": "macro-F1 in percent, mean and sd over splits",
        "splits": SEEDS,
        "backbone": {"arm": FULL, "seed": 0, **asdict(length)},
        "finetune": describe(FineTuneConfig()),
        "tasks": [asdict(task) for task in TASKS],
        "rows": [asdict(row) for row in rows],
        "met": met(rows),
        "versions": versions("torch", "deepspeed", "transformers", "scikit-learn"),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "quality-run")
    parser.add_argument("--steps", type=int, default=Length().steps, help="of pretraining")
    parser.add_argument("--tasks", nargs="+", choices=[task.name for task in TASKS])
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--write-readme", action="store_true", help="put the table into README")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    with chapter("shards and tasks"):
        prepared = prepare(options.data, options.out, VOCAB_SIZE)
        folders = prepare_tasks(options.data, prepared, options.out)
    length = replace(Length(), steps=options.steps)
    trained = Trained(arm=FULL, seed=0, run=options.out / "runs" / f"{FULL}-0")
    with chapter(f"pretrain {trained.name}"):
        train_arm(trained, prepared.blend, length)
    rows: list[SentimentRow] = []
    for given in TASKS:
        if options.tasks is None or given.name in options.tasks:
            with chapter(given.name):
                rows += measure(given, folders[given.name], trained, options.out / "sentiment")
    result = result_json(rows, length)
    whole = options.tasks is None
    target = RESULT if whole else options.out / "sentiment" / "part.json"
    write_json(target, result)
    text = table_markdown(rows)
    print(f"\n{text}\n\n{target}")
    if options.write_readme and whole:
        write_between(REPOSITORY / "README.md", "sentiment", text)
    sys.exit(exit_code(result["met"], options.check))


if __name__ == "__main__":
    main()
