"""A fine-tuning report as plain text."""

import io
from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from eval.comparison import Summary
from eval.finetune.report import FineTuneReport, TunedScores
from eval.metrics import class_report
from eval.plain_text import plain_console
from eval.probes.probe_report import metric_heading, tell_value


def format_report(report: FineTuneReport, width: int = 100) -> str:
    """Scores, then each class, then what a reader must know; for a terminal or a log file."""
    stream = io.StringIO()
    console = plain_console(stream, width)
    console.print(_scores_table(report))
    if report.task.get("classes"):
        console.print(_classes_table(report, report.task["classes"]))
    for name, reason in report.missing.items():
        console.print(f"{name}: {reason}")
    for sentence in report.findings:
        console.print(sentence)
    return stream.getvalue()


def tell_spread(metrics: Mapping[str, Summary], metric: str) -> str:
    """Mean and deviation over splits, ``43.9 ± 0.8``; ``none`` where some split has no value."""
    if (found := metrics.get(metric)) is None:
        return "none"
    mean = tell_value(found.mean, metric)
    return mean if found.sd is None else f"{mean} ± {tell_value(found.sd, metric)}"


def _scores_table(report: FineTuneReport) -> Table:
    metric = report.task["metric"]
    splits = max((len(one.epochs) for one in report.representations.values()), default=0)
    table = Table(
        title=f"{report.task['name']}: {metric_heading(metric)}, fine-tuned "
        f"{report.checkpoint['name']}",
        caption=f"mean ± standard deviation over {splits} splits, each with its own seed; "
        "indented: the model of the line above, one modality masked",
    )
    table.add_column("", style="bold", no_wrap=True)
    constant = "majority" if report.task.get("classes") else "mean"
    for heading in (constant, "fine-tuned", "validation", "epoch", "samples"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, part in report.representations.items():
        chosen = [tell_value(value, _selects(report)) for value in part.validation]
        table.add_row(
            name,
            tell_spread(part.constant, metric),
            tell_spread(part.metrics, metric),
            _span(chosen),
            _span([str(epoch) for epoch in part.epochs]),
            _span([f"{sum(sizes.values()):,}" for sizes in part.split_sizes]),
        )
        for modality, masked in part.masked.items():
            tested = _span([f"{count:,}" for count in masked.num_samples])
            table.add_row(
                f"  without {modality}",
                "",
                tell_spread(masked.metrics, metric),
                "",
                "",
                f"{tested} tested",
            )
    return table


def _classes_table(report: FineTuneReport, classes: Sequence[str]) -> Table:
    table = Table(title="Each class in %, counts of all splits together")
    for heading in ("", "class"):
        table.add_column(heading, no_wrap=True)
    for heading in ("precision", "recall", "F1", "tested"):
        table.add_column(heading, justify="right")
    for name, part in report.representations.items():
        for row in _class_rows(part, classes):
            table.add_row(name, *row)
            name = ""
        table.add_section()
    return table


def _class_rows(part: TunedScores, classes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for one in class_report(part.confusion, classes):
        shares = [
            "none" if value is None else f"{100 * value:.1f}"
            for value in (one.precision, one.recall)
        ]
        yield (one.name, *shares, f"{100 * one.f1:.1f}", f"{one.support:,}")


def _selects(report: FineTuneReport) -> str:
    return "macro_f1" if report.task.get("classes") else "mae"


def _span(values: Sequence[str]) -> str:
    """One value where all are equal, else the least and the greatest as numbers."""
    ordered = sorted(values, key=lambda text: float(text.replace(",", "")))
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
