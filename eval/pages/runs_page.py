"""A comparison of runs as one HTML page, in the style of a run's report."""

from dataclasses import dataclass, replace

from markupsafe import Markup

from eval.pages.compare_runs import RunsComparison, TaskTable
from eval.pages.conclusions import conclusions, heading, remarks
from eval.pages.forest import Mark, draw_forest
from eval.pages.map_chart import NUM_COLOURS
from eval.pages.page import floor_marks, make_mark, render_page
from eval.pages.runs_table import (
    RULES,
    SHORT,
    WHICH,
    Line,
    changed_heading,
    checkpoints,
    floor_headings,
    lines,
)
from eval.regression_metrics import NO_SHARES

PILLS = {"better": "yes", "worse": "no"}
"""Class names of verdicts; of the others ``none``."""


@dataclass(frozen=True, kw_only=True)
class TaskChapter:
    """What the page shows of one task."""

    title: str
    checkpoints: str
    conclusions: dict[str, str]
    remarks: list[str]
    floors: tuple[str, ...]
    lines: tuple[Line, ...]
    scores: Markup
    """A forest plot of the scores and the first run's floors."""
    differences: Markup | None
    """Of the differences to the first run; None where nothing can be compared."""


def render_comparison(comparison: RunsComparison) -> str:
    """The page; everything that comes from data is escaped."""
    return render_page(
        "runs.html",
        comparison=comparison,
        which=WHICH[comparison.which],
        chapters=[_chapter(table, list(comparison.runs)) for table in comparison.tasks],
        changed=changed_heading(comparison),
        rules=RULES,
        short=SHORT,
        pills=PILLS,
    )


def _chapter(table: TaskTable, runs: list[str]) -> TaskChapter:
    percent = table.metric not in NO_SHARES
    kinds = {name: f"s{place % NUM_COLOURS}" for place, name in enumerate(runs)}
    found = {subset: _differences(table, subset, kinds) for subset in table.subsets}
    found = {subset: marks for subset, marks in found.items() if marks}
    title = f"{table.name}: differences to the first run"
    return TaskChapter(
        title=heading(table),
        checkpoints=checkpoints(table),
        conclusions=conclusions(table),
        remarks=remarks(table),
        floors=tuple(floor_headings(table).values()),
        lines=tuple(lines(table)),
        scores=draw_forest(
            f"{table.name}: scores and floors",
            {subset: _scores(table, subset, kinds) for subset in table.subsets},
            percent,
        ),
        differences=draw_forest(title, found, percent) if found else None,
    )


def _scores(table: TaskTable, subset: str, kinds: dict[str, str]) -> list[Mark]:
    """The first run's floors, then every run."""
    parts = {run: table.reports[run].subsets[subset] for run in table.runs_with(subset)}
    first = next(iter(parts.values()))
    own = [
        make_mark(run, kinds[run], part.pretrained.metrics[table.metric])
        for run, part in parts.items()
    ]
    floors = [replace(mark, kind="floor") for mark in floor_marks(first, table.metric)]
    return floors + own


def _differences(table: TaskTable, subset: str, kinds: dict[str, str]) -> list[Mark]:
    return [
        make_mark(run, kinds[run], found.paired.gain)
        for run, found in table.differences[subset].items()
        if found.paired is not None
    ]
