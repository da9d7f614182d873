"""The run as one HTML page: self-contained, for a phone and a desk, in light and dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from eval.best import RULE, Choice
from eval.chapters import Panel, chapters, make_panel, ordered
from eval.charts import Mark, Points, draw_forest
from eval.comparison import Summary
from eval.metrics import ClassScore, class_report
from eval.probe_report import (
    ProbeReport,
    SubsetReport,
    metric_heading,
    repeats,
    tell,
)
from eval.records import flatten, write_text
from eval.regression_metrics import NO_SHARES
from eval.run_record import RunRecord, read_run
from pretrain.metrics import guide

TEMPLATES = Path(__file__).parent / "templates"
REPORT_FILE = "report.html"
FLOORS = {
    "majority": "majority class",
    "mean": "mean label",
    "shuffled": "shuffled labels",
    "tfidf": "TF-IDF",
    "random": "random weights",
}
TRAINING = (guide.LOSSES, guide.SCHEDULES, guide.SCORES, guide.DATA)
HEALTH = (guide.COLLAPSE, guide.ALIGNMENT, guide.WEIGHTS, guide.GRADIENTS)
VERDICTS = {
    "healthy": "Healthy: no rule found anything at the last look.",
    "warned": "Warned: something deserves a look.",
    "collapsed": "Collapsed: these weights are unfit to publish.",
}


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """The newest probe of a task, and how the scores went over checkpoints."""

    report: ProbeReport
    metric: str
    verdict: str
    forest: Markup
    over_time: Panel | None
    floors: Mapping[str, str]
    """Headings of the floors that the task has, by name."""
    classes: Mapping[str, Sequence[ClassScore]]
    """Per-class scores of each representation; empty where the label is a number."""


def write_report(run: Path) -> Path:
    """Write ``report.html`` into the run folder.

    Returns:
        Its path.

    Raises:
        ValueError: The folder is no run, or a probe report in it cannot be read.
    """
    page = render(read_run(run))
    write_text(run / REPORT_FILE, page)
    return run / REPORT_FILE


def render(record: RunRecord) -> str:
    """The page; everything that comes from data is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((TEMPLATES / "report.html").read_text("utf-8"))
    style = (TEMPLATES / "report.css").read_text("utf-8")
    return template.render(
        run=record,
        best=_best(record.choice),
        style=Markup(style),
        facts=_facts(record),
        tasks=_tasks(record.probes),
        training=chapters(TRAINING, record.metrics),
        health=chapters(HEALTH, record.metrics),
        verdicts=VERDICTS,
        config=flatten(record.config),
        tell=tell,
        repeats=repeats,
        floors=FLOORS,
        rule=RULE,
    )


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """The tiles at the top: label and value."""
    facts: list[tuple[str, str]] = []
    losses = record.metrics.get("loss/total")
    if losses:
        facts.append(("optimizer steps", f"{losses[-1][0]:,.0f}"))
        facts.append(("loss, first to last", f"{losses[0][1]:.2f} → {losses[-1][1]:.2f}"))
    samples = record.metrics.get("samples")
    if samples:
        facts.append(("samples seen", f"{samples[-1][1]:,.0f}"))
    speed = _first(record, "speed/samples_per_second", "samples_per_second")
    if speed:
        middle = sorted(value for _, value in speed)[len(speed) // 2]
        facts.append(("samples per second", f"{middle:,.0f}"))
    facts.append(("checkpoints", str(len(record.checkpoints))))
    if record.choice.best is not None:
        facts.append(("best checkpoint, by validation", record.choice.best.name))
    if record.health is not None:
        facts.append(("health", record.health.verdict.state))
    return facts


def _best(choice: Choice) -> str:
    """One sentence, with what was left out and why."""
    text = choice.sentence()
    left_out = [f"{one.name} {one.left_out}" for one in choice.candidates if one.left_out]
    if choice.best is not None and left_out:
        text += f"; left out: {', '.join(left_out)}"
    return f"{text[0].upper()}{text[1:]}."


def _tasks(probes: Sequence[ProbeReport]) -> list[TaskSection]:
    by_task: dict[str, list[ProbeReport]] = {}
    for report in probes:
        by_task.setdefault(report.task["name"], []).append(report)
    return [_task_section(reports) for reports in by_task.values()]


def _task_section(reports: Sequence[ProbeReport]) -> TaskSection:
    newest = reports[-1]
    metric = newest.task["metric"]
    return TaskSection(
        report=newest,
        metric=metric_heading(metric).replace("f1", "F1").replace("in %", "in percent"),
        verdict=_verdict(newest),
        forest=draw_forest(
            f"{newest.task['name']}: scores and floors",
            {name: _marks(part, metric) for name, part in newest.subsets.items()},
            percent=metric not in NO_SHARES,
        ),
        over_time=_over_time(reports, metric) if len(reports) > 1 else None,
        floors={
            name: label
            for name, label in FLOORS.items()
            if any(name in part.floors for part in newest.subsets.values())
        },
        classes={
            name: class_report(part.pretrained.confusion, newest.task["classes"])
            for name, part in newest.subsets.items()
            if part.pretrained.confusion
        },
    )


def _verdict(report: ProbeReport) -> str:
    """One sentence: which representations beat fresh weights."""
    won = [name for name, part in report.subsets.items() if part.versus_random.beats]
    lost = [name for name, part in report.subsets.items() if part.versus_random.beats is False]
    if not won and not lost:
        return "No verdict: too few splits."
    if not won:
        return "Pretrained features do not beat random-initialised ones in any representation."
    tail = f" Not for: {', '.join(lost)}." if lost else ""
    return f"Pretrained features beat random-initialised ones for: {', '.join(won)}.{tail}"


def _marks(part: SubsetReport, metric: str) -> list[Mark]:
    scores = {
        FLOORS[name]: ("random" if name == "random" else "floor", part.floors[name])
        for name in FLOORS
        if name in part.floors
    } | {"pretrained": ("pretrained", part.pretrained)}
    return [_mark(label, kind, found.metrics[metric]) for label, (kind, found) in scores.items()]


def _mark(label: str, kind: str, summary: Summary) -> Mark:
    span = summary.interval
    return Mark(
        label=label,
        kind=kind,
        value=summary.mean,
        low=span.low if span else None,
        high=span.high if span else None,
    )


def _over_time(reports: Sequence[ProbeReport], metric: str) -> Panel:
    series: dict[str, list[tuple[float, float]]] = {}
    for report in reports:
        for name, part in report.subsets.items():
            scale = 1 if metric in NO_SHARES else 100
            point = (float(report.checkpoint["step"]), scale * part.pretrained.metrics[metric].mean)
            series.setdefault(name, []).append(point)
    note = f"{metric_heading(metric)}, by optimizer step"
    return make_panel("Score over checkpoints", note, ordered(series))


def _first(record: RunRecord, *names: str) -> Points | None:
    return next((record.metrics[name] for name in names if name in record.metrics), None)
