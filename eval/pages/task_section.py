"""What a run's report shows of one task: the newest probe, and the scores over checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from eval.comparison import Summary
from eval.metrics import ClassScore, class_report
from eval.pages.chapters import Panel, make_panel
from eval.pages.charts import LineChart
from eval.pages.forest import draw_forest
from eval.pages.map_chart import MapSection, map_section
from eval.pages.modality_table import ModalityTable, modality_table
from eval.pages.others_table import OthersTable, others_table
from eval.pages.page import FLOORS, floor_marks, make_mark
from eval.pages.run_record import made_alike
from eval.pages.scored import why_open
from eval.probes.embedding_map import EmbeddingMap
from eval.probes.probe_report import (
    ProbeReport,
    ProbeScores,
    SubsetReport,
    metric_heading,
)
from eval.regression_metrics import NO_SHARES

PRETRAINED = "pretrained"
KINDS = {PRETRAINED: "pretrained", FLOORS["random"]: "random"} | {
    FLOORS[name]: f"floor {name}" for name in ("majority", "mean", "shuffled", "tfidf")
}


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """The newest probe of a task, and how the scores went over checkpoints."""

    report: ProbeReport
    metric: str
    shown: Mapping[str, SubsetReport]
    """What is not in the table of subsets."""
    verdict: str
    forest: Markup
    curves: Sequence[Panel]
    """Scores and floors over checkpoints, a panel for each representation; none of one probe."""
    otherwise: str
    """Which checkpoints are not in the curves; empty where all are."""
    floors: Mapping[str, str]
    """Headings of the floors that the task has, by name."""
    classes: Mapping[str, Sequence[ClassScore]]
    """Per-class scores of each representation; empty where the label is a number."""
    subsets: ModalityTable | None
    map: MapSection | None
    others: OthersTable | None


def task_sections(
    probes: Sequence[ProbeReport], maps: Mapping[tuple[str, str], EmbeddingMap]
) -> list[TaskSection]:
    """A section for each task.

    Args:
        probes: By task, then by step.
        maps: By task and digest of the checkpoint.
    """
    by_task: dict[str, list[ProbeReport]] = {}
    for report in probes:
        by_task.setdefault(report.task["name"], []).append(report)
    return [
        _section(reports, maps.get((name, reports[-1].checkpoint["digest"])))
        for name, reports in by_task.items()
    ]


def _section(reports: Sequence[ProbeReport], found: EmbeddingMap | None) -> TaskSection:
    newest, alike = reports[-1], made_alike(reports)
    metric, subsets = newest.task["metric"], modality_table(newest)
    apart = {row.name for row in subsets.rows} if subsets else set()
    shown = {name: part for name, part in newest.subsets.items() if name not in apart}
    return TaskSection(
        report=newest,
        shown=shown,
        metric=metric_heading(metric).replace("f1", "F1").replace("in %", "in percent"),
        verdict=_verdict(newest),
        forest=draw_forest(
            f"{newest.task['name']}: scores and floors",
            {
                name: [
                    *floor_marks(part, metric),
                    make_mark(PRETRAINED, "pretrained", part.pretrained.metrics[metric]),
                ]
                for name, part in shown.items()
            },
            percent=metric not in NO_SHARES,
        ),
        curves=[
            _curve(alike, name)
            for name in shown
            if sum(name in report.subsets for report in alike) > 1
        ],
        otherwise=_otherwise(reports, alike),
        floors={
            name: label
            for name, label in FLOORS.items()
            if any(name in part.floors for part in shown.values())
        },
        classes={
            name: class_report(part.pretrained.confusion, newest.task["classes"])
            for name, part in shown.items()
            if part.pretrained.confusion
        },
        subsets=subsets,
        others=others_table(newest),
        map=_map(found, newest),
    )


def _map(found: EmbeddingMap | None, newest: ProbeReport) -> MapSection | None:
    """Of the newest probe's weights and shards; None where too few samples left none to draw."""
    if found is None or not found.projections or found.shards != newest.shards["digest"]:
        return None
    return map_section(found)


def _verdict(report: ProbeReport) -> str:
    """Which representations beat fresh weights, which do not, and of which it is not known."""
    won = [name for name, part in report.subsets.items() if part.versus_random.beats]
    lost = [name for name, part in report.subsets.items() if part.versus_random.beats is False]
    unknown: dict[str, list[str]] = {}
    for name, part in report.subsets.items():
        if part.versus_random.beats is None:
            unknown.setdefault(why_open(part.versus_random), []).append(name)
    told = []
    if won:
        told.append(f"Pretrained features beat random-initialised ones for: {', '.join(won)}.")
        told += [f"Not for: {', '.join(lost)}."] if lost else []
    elif lost:
        where = f"for: {', '.join(lost)}" if unknown else "in any representation"
        told.append(f"Pretrained features do not beat random-initialised ones {where}.")
    told += [f"No verdict for {', '.join(names)}: {why}." for why, names in unknown.items()]
    return " ".join(told)


def _otherwise(reports: Sequence[ProbeReport], alike: Sequence[ProbeReport]) -> str:
    out = [report.checkpoint["name"] for report in reports if report not in alike]
    if not out:
        return ""
    return (
        f"Not in the curves over checkpoints: {', '.join(out)}, probed with another card, other "
        "shards or another protocol than the newest."
    )


def _curve(reports: Sequence[ProbeReport], subset: str) -> Panel:
    """One representation over checkpoints that were probed alike, beside its floors."""
    metric = reports[-1].task["metric"]
    scale = 1.0 if metric in NO_SHARES else 100.0
    series: dict[str, list[tuple[float, float]]] = {}
    spans: dict[str, list[tuple[float, float, float]]] = {}
    for report in reports:
        if (part := report.subsets.get(subset)) is None:
            continue
        step = float(report.checkpoint["step"])
        found: dict[str, ProbeScores] = {
            label: part.floors[name] for name, label in FLOORS.items() if name in part.floors
        }
        for label, scores in (found | {PRETRAINED: part.pretrained}).items():
            told: Summary = scores.metrics[metric]
            series.setdefault(label, []).append((step, scale * told.mean))
            if told.interval is not None and label in (PRETRAINED, FLOORS["random"]):
                ends = scale * told.interval.low, scale * told.interval.high
                spans.setdefault(label, []).append((step, *ends))
    chart = LineChart(
        title=f"{subset} over checkpoints",
        series=series,
        note=f"{metric_heading(metric)} by optimizer step, with 95 % intervals",
        spans=spans,
        kinds=KINDS,
    )
    return make_panel(chart)
