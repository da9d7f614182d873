"""A comparison of runs as one HTML page, in the style of a run's report."""

from dataclasses import dataclass

from markupsafe import Markup

from eval.pages.compare_runs import RunsComparison, TaskTable
from eval.pages.conclusions import conclusions, heading, remarks, title, untold
from eval.pages.forest import Mark, draw_forest
from eval.pages.map_chart import NUM_COLOURS
from eval.pages.page import FLOORS, make_mark, render_page
from eval.pages.runs_table import (
    RULES,
    SHORT,
    WHICH,
    Line,
    changed_heading,
    checkpoints,
    floor_headings,
    lines,
    score_heading,
)
from eval.regression_metrics import NO_SHARES

PILLS = {"better": "yes", "worse": "no"}
"""Class names of verdicts; of the others ``none``."""


@dataclass(frozen=True, kw_only=True)
class TaskChapter:
    """What the page shows of one task, by one method."""

    title: str
    checkpoints: str
    conclusions: dict[str, str]
    remarks: list[str]
    floors: tuple[str, ...]
    score: str
    """Heading of the runs' own scores."""
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
        chapters=[_chapter(table, list(comparison.runs)) for table in comparison.tables],
        untold=untold(comparison.alone),
        changed=changed_heading(comparison),
        rules=RULES,
        short=SHORT,
        pills=PILLS,
    )


def _chapter(table: TaskTable, runs: list[str]) -> TaskChapter:
    percent = table.metric not in NO_SHARES
    kinds = {name: f"s{place % NUM_COLOURS}" for place, name in enumerate(runs)}
    found = {name: _differences(table, name, kinds) for name in table.names}
    found = {name: marks for name, marks in found.items() if marks}
    return TaskChapter(
        title=heading(table),
        checkpoints=checkpoints(table),
        conclusions=conclusions(table),
        remarks=remarks(table),
        floors=tuple(floor_headings(table).values()),
        score=score_heading(table),
        lines=tuple(lines(table)),
        scores=draw_forest(
            f"{title(table)}: scores and floors",
            {name: _scores(table, name, kinds) for name in table.names},
            percent,
        ),
        differences=draw_forest(f"{title(table)}: differences to the first run", found, percent)
        if found
        else None,
    )


def _scores(table: TaskTable, name: str, kinds: dict[str, str]) -> list[Mark]:
    """The first run's floors, then every run."""
    parts = {run: table.answers[run].scored[name] for run in table.runs_with(name)}
    first = next(iter(parts.values()))
    floors = [
        make_mark(label, "floor", first.floors[floor])
        for floor, label in FLOORS.items()
        if floor in first.floors
    ]
    return floors + [make_mark(run, kinds[run], part.score) for run, part in parts.items()]


def _differences(table: TaskTable, name: str, kinds: dict[str, str]) -> list[Mark]:
    return [
        make_mark(run, kinds[run], found.paired.gain)
        for run, found in table.differences[name].items()
        if found.paired is not None
    ]
