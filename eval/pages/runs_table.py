"""A comparison of runs as lines, and these as text for a terminal or as Markdown."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from eval.comparison import Interval
from eval.pages.compare_runs import RunsComparison, TaskTable, Verdict
from eval.pages.conclusions import conclusions, heading, remarks, untold
from eval.pages.page import FLOORS
from eval.pages.scored import TUNED
from eval.plain_text import plain_console
from eval.probes.probe_report import tell_value

WIDEST = 1000
"""Characters of a line, however long the runs' names are."""
SHORT: Mapping[Verdict, str] = {
    "better": "better",
    "worse": "worse",
    "within": "not told apart",
    "uncorrected": "not told apart (Holm)",
    "open": "no verdict",
    "unlike": "not comparable",
}
RULES = (
    "A table is of a linear probe of frozen features, unless it names another method. "
    "[low, high]: 95 % interval. A difference is paired, "
    "split by split, against the first run, and above 0 where the run is better. It exceeds its "
    "interval where that does not hold zero; with more than two runs, those of one representation "
    "are corrected for their number (Holm 1979). Over representations, methods and tasks nothing "
    "is corrected: of twenty that do not differ, one exceeds by chance. Where a set's authors "
    "fixed the parts, the interval of a difference is the widest that the two runs' own allow."
)
WHICH = {
    "best": "the best checkpoint of each run, by validation scores alone",
    "newest": "the newest checkpoint of each run that was probed, or fine-tuned",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A run's score in one representation, as it is told.

    Attributes:
        name: The representation.
        run: Name of the run.
        floors: By heading; empty where the run has none of that name.
        score: ``43.9``.
        interval: ``[41.0, 46.8]``; empty where there is none.
        gain: Over the first run; empty for the first, and where the two are not comparable.
        gain_interval: Its interval; empty where there is none.
        verdict: As in `Difference`; None for the first run.
        reason: Why there is no verdict or no comparison.
    """

    name: str
    run: str
    floors: Mapping[str, str]
    score: str
    interval: str
    gain: str
    gain_interval: str
    verdict: Verdict | None
    reason: str

    @property
    def against(self) -> str:
        """Gain and interval."""
        return f"{self.gain} {self.gain_interval}".rstrip()


def floor_headings(table: TaskTable) -> dict[str, str]:
    """Headings of the floors that any run has, by name."""
    parts = [part for answer in table.answers.values() for part in answer.scored.values()]
    return {
        name: label for name, label in FLOORS.items() if any(name in part.floors for part in parts)
    }


def score_heading(table: TaskTable) -> str:
    """Of the runs' own scores."""
    return TUNED if table.method == TUNED else "pretrained"


def lines(table: TaskTable) -> Iterator[Line]:
    """By representation, then by run."""
    headings, metric = floor_headings(table), table.metric
    for name in table.names:
        for run in table.runs_with(name):
            part = table.answers[run].scored[name]
            found = table.differences[name].get(run)
            gain = found.paired.gain if found and found.paired else None
            yield Line(
                name=name,
                run=run,
                floors={
                    label: tell_value(part.floors[floor].mean, metric)
                    if floor in part.floors
                    else ""
                    for floor, label in headings.items()
                },
                score=tell_value(part.score.mean, metric),
                interval=_span(part.score.interval, metric),
                gain=tell_value(gain.mean, metric, "+") if gain else "",
                gain_interval=_span(gain.interval, metric, "+") if gain else "",
                verdict=found.verdict if found else None,
                reason=found.reason if found else "",
            )


def checkpoints(table: TaskTable) -> str:
    """Which checkpoint of each run is told of, and what it had seen."""
    told = {}
    for run, answer in table.answers.items():
        seen = answer.checkpoint.get("samples_consumed")
        told[run] = answer.checkpoint["name"] + ("" if seen is None else f", {seen:,} samples")
    return "; ".join(f"{run}: {what}" for run, what in told.items())


def changed_heading(comparison: RunsComparison) -> str:
    """What stands above the options that differ."""
    some = comparison.num_recorded_by_some
    rest = f"; {some} more options are recorded by some of them alone" if some else ""
    if not comparison.changed:
        return f"No option that all of the runs recorded differs{rest}."
    return f"What differs in the configurations of {', '.join(comparison.runs)}{rest}:"


def format_comparison(comparison: RunsComparison, width: int = 110) -> str:
    """Plain text, for a terminal or a log file; wider where its numbers need it."""
    stream = io.StringIO()
    console = plain_console(stream, width)
    console.print(f"{WHICH[comparison.which]}; compared with {next(iter(comparison.runs))}")
    for table in comparison.tables:
        made = _rich(table)
        console.width = WIDEST
        console.width = max(width, console.measure(made).maximum)
        console.print(made)
        console.width = width
        told = map(": ".join, conclusions(table).items())
        for text in (checkpoints(table), *told, *remarks(table)):
            console.print(text)
    for text in filter(None, (untold(comparison.alone), RULES, changed_heading(comparison))):
        console.print(f"\n{text}")
    for name, values in comparison.changed.items():
        console.print(f"  {name}: {' | '.join(values)}")
    return stream.getvalue().rstrip("\n")


def format_markdown(comparison: RunsComparison) -> str:
    """The same as Markdown."""
    blocks = [f"{WHICH[comparison.which]}; compared with {_cell(next(iter(comparison.runs)))}"]
    for table in comparison.tables:
        told = [f"- {_cell(what)}: {_cell(of)}" for what, of in conclusions(table).items()]
        told += [f"- {_cell(remark)}" for remark in remarks(table)]
        blocks += [f"### {_cell(heading(table))}", _markdown_table(table)]
        blocks += [_cell(checkpoints(table)), "\n".join(told)]
    if alone := untold(comparison.alone):
        blocks.append(_cell(alone))
    blocks += [RULES, changed_heading(comparison)]
    if comparison.changed:
        rows = [["option", *comparison.runs]]
        rows += [[name, *values] for name, values in comparison.changed.items()]
        blocks.append(_markdown(rows))
    return "\n\n".join(blocks)


def _rich(table: TaskTable) -> Table:
    made = Table(title=heading(table), box=SIMPLE_HEAD)
    made.add_column("", style="bold", no_wrap=True)
    made.add_column("run", no_wrap=True)
    for label in (*floor_headings(table).values(), score_heading(table), "", "against the first"):
        made.add_column(label, justify="right", no_wrap=True)
    made.add_column("verdict", no_wrap=True)
    before = ""
    for line in lines(table):
        cells = (*line.floors.values(), line.score, line.interval, line.against)
        named = line.name if line.name != before else ""
        before = line.name
        verdict = SHORT[line.verdict] if line.verdict else ""
        made.add_row(named, line.run, *cells, verdict)
    return made


def _markdown_table(table: TaskTable) -> str:
    floors = floor_headings(table).values()
    rows = [["", "run", *floors, score_heading(table), "95 %", "against the first", "verdict"]]
    rows += [
        [
            line.name,
            line.run,
            *line.floors.values(),
            line.score,
            line.interval,
            line.against,
            SHORT[line.verdict] if line.verdict else "",
        ]
        for line in lines(table)
    ]
    return _markdown(rows)


def _markdown(rows: list[list[str]]) -> str:
    head, *body = [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def _cell(text: str) -> str:
    """On one line, and nothing in it is Markdown's or HTML's."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    for sign in "\\|`*_[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def _span(span: Interval | None, metric: str, sign: str = "") -> str:
    if span is None:
        return ""
    return f"[{tell_value(span.low, metric, sign)}, {tell_value(span.high, metric, sign)}]"
