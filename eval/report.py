"""The run as one HTML page: self-contained, for a phone and a desk, in light and dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from data_sharding.schema import MODALITIES
from eval.charts import Band, LineChart, Mark, Points, draw_forest, draw_lines
from eval.comparison import Summary
from eval.probe_report import ProbeReport, SubsetReport, percent
from eval.records import flatten, write_text
from eval.run_record import RunRecord, read_run

TEMPLATES = Path(__file__).parent / "templates"
ORDER = (*MODALITIES, "fused")
FLOORS = {
    "majority": "majority class",
    "shuffled": "shuffled labels",
    "tfidf": "TF-IDF",
    "random": "random weights",
}
COLLAPSED_BELOW = 0.1


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart with its heading, legend and reading aid."""

    title: str
    note: str
    names: tuple[str, ...]
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """The newest probe of a task, and how the scores went over checkpoints."""

    report: ProbeReport
    metric: str
    verdict: str
    forest: Markup
    over_time: Panel | None


def write_report(run: Path) -> Path:
    """Write ``report.html`` into the run folder.

    Returns:
        Its path.

    Raises:
        ValueError: The folder is no run, or a probe report in it cannot be read.
    """
    page = render(read_run(run))
    write_text(run / "report.html", page)
    return run / "report.html"


def render(record: RunRecord) -> str:
    """The page; everything that comes from data is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((TEMPLATES / "report.html").read_text("utf-8"))
    style = (TEMPLATES / "report.css").read_text("utf-8")
    return template.render(
        run=record,
        style=Markup(style),
        facts=_facts(record),
        tasks=_tasks(record.probes),
        training=_training_panels(record),
        health=_health_panels(record),
        config=flatten(record.config),
        percent=percent,
        floors=FLOORS,
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
    return facts


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
        metric=metric.replace("_", "-").replace("f1", "F1"),
        verdict=_verdict(newest),
        forest=draw_forest(
            f"{newest.task['name']}: scores and floors",
            {name: _marks(part, metric) for name, part in newest.subsets.items()},
        ),
        over_time=_over_time(reports, metric) if len(reports) > 1 else None,
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
            point = (float(report.checkpoint["step"]), 100 * part.pretrained.metrics[metric].mean)
            series.setdefault(name, []).append(point)
    return _panel("Score over checkpoints", "in percent, by optimizer step", _ordered(series))


def _training_panels(record: RunRecord) -> list[Panel]:
    terms = {name: points for name, points in record.metrics.items() if name.startswith("loss/")}
    total = {key.removeprefix("loss/"): terms[key] for key in ("loss/total",) if key in terms}
    panels = [_panel("Total loss", "weighted sum of all terms", total)]
    within = _stripped(terms, "loss/intra_")
    if "loss/fused" in terms:
        within["fused"] = terms["loss/fused"]
    panels.append(
        _panel("Within a modality", "0 is perfect agreement of both views", _ordered(within))
    )
    across = {name.replace("_", " → "): v for name, v in _stripped(terms, "loss/cross_").items()}
    if across:
        panels.append(_panel("Across modalities", "one predictor for each direction", across))
    tau = _first(record, "schedule/tau", "tau")
    rate = _first(record, "schedule/learning_rate", "lr")
    if tau:
        note = "share of the old target kept at each step"
        panels.append(_panel("Target pace τ", note, {"tau": tau}, from_zero=False))
    if rate:
        panels.append(_panel("Learning rate", "of the online network", {"rate": rate}))
    gradient = _first(record, "gradient/norm")
    if gradient:
        panels.append(_panel("Gradient norm", "before clipping", {"norm": gradient}))
    return panels


def _health_panels(record: RunRecord) -> list[Panel]:
    panels = []
    bands = (
        Band(low=0.0, high=COLLAPSED_BELOW, kind="bad", label="collapsed below 0.1"),
        Band(low=0.6, high=1.0, kind="good", label="healthy"),
    )
    for stage, title in (("projector", "Spread of projections"), ("encoder", "Spread of features")):
        series = _stripped(record.metrics, f"health/std_{stage}_")
        if stage == "projector":
            series |= _stripped(record.metrics, "std/")
        if series:
            note = "std of unit vectors times √dim: 1 is even in all directions, 0 a single point"
            panels.append(_panel(title, note, _ordered(series), bands=bands))
    ranks = _stripped(record.metrics, "health/rank_projector_")
    if ranks:
        note = "RankMe: how many directions are used; bounded by the rows of a batch"
        panels.append(_panel("Effective rank", note, _ordered(ranks)))
    return panels


def _panel(
    title: str,
    note: str,
    series: Mapping[str, Points],
    bands: Sequence[Band] = (),
    from_zero: bool = True,
) -> Panel:
    chart = LineChart(title=title, series=series, bands=bands, from_zero=from_zero)
    return Panel(title=title, note=note, names=tuple(series), svg=draw_lines(chart))


def _stripped(
    series: Mapping[str, Points], prefix: str, only: str | None = None
) -> dict[str, Points]:
    """Series whose name starts with a prefix, without it."""
    found = {
        name.removeprefix(prefix): points
        for name, points in series.items()
        if name.startswith(prefix)
    }
    return found if only is None else {name: found[name] for name in found if name == only}


def _ordered(series: Mapping[str, Points]) -> dict[str, Points]:
    """Modalities in their one order, then the rest."""
    known = [name for name in ORDER if name in series]
    return {name: series[name] for name in [*known, *sorted(set(series) - set(known))]}


def _first(record: RunRecord, *names: str) -> Points | None:
    return next((record.metrics[name] for name in names if name in record.metrics), None)
