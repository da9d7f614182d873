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
from scratch a fresh backbone trained with its head on the labels (not of the joined set)
fine-tuned   the pretrained one, likewise

Macro-F1 in percent, mean and deviation over the splits; then what pretraining gives, frozen
(pretrained less random) and trained on (fine-tuned less from scratch), with the plain 95 % paired
interval over the splits. Five splits give no verdict on a row; ``--check`` exits with 1 unless
pretraining wins, by that interval, on more rows than it loses, frozen as well as trained on.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interleaved import RESULTS, exit_code, versions
from quality_arms import Trained, train_arm
from quality_options import prepare_shards, show, table_options
from quality_probe import (
    MAJORITY,
    RANDOM,
    Question,
    chapter,
    probe_random,
    probe_raw,
    probe_trained,
)
from quality_recipe import Length
from quality_table import FULL, Cell, cell, line, percent_span, seeds_of
from sentiment_tasks import TASKS, SentimentTask, prepare_tasks
from sentiment_tuned import SCRATCH, TUNED, probe_tuned

from eval.comparison import Summary
from eval.finetune.config import FineTuneConfig, describe
from eval.probes.arm_comparison import compare_arms
from eval.probes.raw_features import RAW
from eval.records import write_json
from eval.tasks import open_task

RESULT = RESULTS / "sentiment.json"
PRETRAINED = "pretrained"
COLUMNS = (MAJORITY, RAW, RANDOM, PRETRAINED, SCRATCH, TUNED)
GAINS = {"frozen": (PRETRAINED, RANDOM), "trained on": (TUNED, SCRATCH)}
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
    gains: Mapping[str, Summary]
    """Of pretraining: ``frozen`` and ``trained on``, as shares."""


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
        **probe_tuned(question, like, given),
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
                cells={column: cell(found) for column, found in scores.items() if found},
                gains={
                    kind: compare_arms(
                        scores[one], scores[other], any_marks.test_share[name]
                    ).difference
                    for kind, (one, other) in GAINS.items()
                    if scores[one] and scores[other]
                },
            )
        )
    return rows


def rows_won_and_lost(rows: Sequence[SentimentRow], kind: str) -> tuple[int, int]:
    """On how many rows the interval of a gain lies above zero, and on how many below."""
    spans = [row.gains[kind].interval_uncorrected for row in rows if kind in row.gains]
    known = [span for span in spans if span is not None]
    return sum(span.low > 0.0 for span in known), sum(span.high < 0.0 for span in known)


def met(rows: Sequence[SentimentRow]) -> bool:
    """Pretraining wins on more rows than it loses, frozen as well as trained on."""
    counts = [rows_won_and_lost(rows, kind) for kind in GAINS]
    return all(won > lost for won, lost in counts)


def table_markdown(rows: Sequence[SentimentRow]) -> str:
    """The table as README shows it; the best column of a row is bold."""
    heads = ("macro-F1, %", "samples", *COLUMNS, *(f"gain, {kind}" for kind in GAINS))
    lines = [line(heads), line(["---"] * len(heads))]
    for row in rows:
        best = max(found.mean for found in row.cells.values())
        shown = [_show(row.cells.get(column), best) for column in COLUMNS]
        subset = row.representation.removeprefix("fused_").replace("_", " + ")
        gains = [_gain(row.gains.get(kind)) for kind in GAINS]
        name = f"{row.task} {row.label}, {subset}"
        lines.append(line((name, f"{row.num_samples:,}", *shown, *gains)))
    told = [
        f"{kind}: above zero on {won}, below on {lost} of {sum(kind in row.gains for row in rows)} "
        "rows"
        for kind in GAINS
        for won, lost in [rows_won_and_lost(rows, kind)]
    ]
    return "\n".join([*lines, "", f"Gain by pretraining, {'; '.join(told)}."])


def _gain(found: Summary | None) -> str:
    if found is None:
        return ""
    return f"{100 * found.mean:+.1f} {percent_span(found.interval_uncorrected)}"


def _show(found: Cell | None, best: float) -> str:
    if found is None:
        return ""
    text = f"{found.mean:.1f} ± {found.sd:.1f}"
    return f"**{text}**" if found.mean == best else text


def result_json(rows: Sequence[SentimentRow], length: Length) -> dict[str, Any]:
    """The table as it is recorded."""
    return {
        "metric": "macro-F1 in percent, mean and sd over splits",
        "splits": SEEDS,
        "backbone": {"arm": FULL, "seed": 0, **asdict(length)},
        "finetune": {task.name: describe(FineTuneConfig(epochs=task.epochs)) for task in TASKS},
        "tasks": [asdict(task) for task in TASKS],
        "rows": [asdict(row) for row in rows],
        "met": met(rows),
        "versions": versions("torch", "deepspeed", "transformers", "scikit-learn"),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = table_options(__doc__, Length().steps, "of pretraining")
    parser.add_argument("--tasks", nargs="+", choices=[task.name for task in TASKS])
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    prepared = prepare_shards(options)
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
    show(table_markdown(rows), target, "sentiment" if options.write_readme and whole else None)
    sys.exit(exit_code(result["met"], options.check))


if __name__ == "__main__":
    main()
