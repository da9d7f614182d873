"""From marks to the table: means, paired intervals, verdicts, Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from quality_probe import MAJORITY, RANDOM, Marks

from eval.comparison import Interval
from eval.probes.arm_comparison import ArmComparison, compare_arms
from eval.probes.raw_features import RAW

FULL = "full"
COLUMNS = (MAJORITY, RAW, RANDOM, "intra", "cross", FULL, "autoencoder", "adversarial")
NEEDED = 5
"""Rows on which `full` must beat `random`."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm on one row, in percent."""

    mean: float
    sd: float
    """Over splits, of the mean over seeds."""
    seeds: tuple[float, ...]
    """Mean over splits of each seed."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row of the table."""

    name: str
    num_samples: int
    cells: Mapping[str, Cell]
    """By column; a column that was not run is absent."""
    versus_random: ArmComparison


def table_row(name: str, subset: str, marks: Mapping[str, Marks]) -> TableRow:
    """A row from the marks of every arm and seed (``full-0``, ``raw``, ...) on its task."""
    any_marks = next(iter(marks.values()))
    scores = {column: seeds_of(column, subset, marks) for column in COLUMNS}
    scores[MAJORITY] = [any_marks.majority[subset]]
    return TableRow(
        name=name,
        num_samples=any_marks.num_samples[subset],
        cells={column: cell(found) for column, found in scores.items() if found},
        versus_random=compare_arms(scores[FULL], scores[RANDOM], any_marks.test_share[subset]),
    )


def seeds_of(column: str, subset: str, marks: Mapping[str, Marks]) -> list[Sequence[float]]:
    """Scores by seed, one for each split, of an arm that may have several seeds or none."""
    names = sorted(name for name in marks if name.rpartition("-")[0] == column or name == column)
    return [marks[name].scores[subset] for name in names if subset in marks[name].scores]


def cell(by_seed: Sequence[Sequence[float]]) -> Cell:
    """Mean and deviation in percent; splits first averaged over seeds."""
    percent = 100.0 * np.array(by_seed)  # [seed, split]
    over_splits = percent.mean(0)
    return Cell(
        mean=float(over_splits.mean()),
        sd=float(over_splits.std(ddof=1)) if len(over_splits) > 1 else 0.0,
        seeds=tuple(float(value) for value in percent.mean(1)),
    )


def rows_won(rows: Sequence[TableRow]) -> list[str]:
    """Names of the rows on which `full` beats `random`."""
    return [row.name for row in rows if row.versus_random.beats]


def table_json(rows: Sequence[TableRow]) -> dict[str, Any]:
    """The table as it is recorded."""
    return {
        "metric": "macro-F1 in percent",
        "rows": [asdict(row) for row in rows],
        "won": rows_won(rows),
        "needed": NEEDED,
        "met": len(rows_won(rows)) >= NEEDED,
    }


def table_markdown(rows: Sequence[TableRow]) -> str:
    """The table as README shows it; the best trained or random arm of a row is bold."""
    heads = ("macro-F1, %", *COLUMNS, "full - random", "corrected", "beats")
    lines = [line(heads), line(["---"] * len(heads))]
    for row in rows:
        shown = [_show(row, column) for column in COLUMNS]
        difference = row.versus_random.difference
        lines.append(
            line(
                (
                    row.name,
                    *shown,
                    f"{100 * difference.mean:+.1f} {percent_span(difference.interval_uncorrected)}",
                    percent_span(difference.interval),
                    {True: "yes", False: "no", None: "?"}[row.versus_random.beats],
                )
            )
        )
    won = rows_won(rows)
    verdict = f"`full` beats the random-initialised backbone on {len(won)} of {len(rows)} rows"
    lost = [row.name for row in rows if row.name not in won]
    rest = f"; it does not on: {', '.join(lost)}." if lost else "."
    return "\n".join([*lines, "", verdict + rest])


def _show(row: TableRow, column: str) -> str:
    found = row.cells.get(column)
    if found is None:
        return ""
    floors = (MAJORITY, RAW)
    best = max(other.mean for name, other in row.cells.items() if name not in floors)
    text = f"{found.mean:.1f} ± {found.sd:.1f}"
    return f"**{text}**" if column not in floors and found.mean == best else text


def percent_span(interval: Interval | None) -> str:
    """An interval of shares in percent."""
    return "" if interval is None else f"[{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def line(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
