"""What a run's report shows of its fine-tuned models: the newest of each task, as lines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from eval.finetune.report import FineTuneReport
from eval.finetune.table import tell_spread
from eval.probes.probe_report import metric_heading


@dataclass(frozen=True, kw_only=True)
class TunedLine:
    """A representation, or its models with one modality masked."""

    name: str
    masked: bool
    constant: str
    """The floor: one answer for all; empty of a masked one."""
    score: str
    """Mean and standard deviation over splits."""
    epochs: str
    """Chosen by validation; empty of a masked one."""


@dataclass(frozen=True, kw_only=True)
class TunedSection:
    """The newest fine-tuning report of a task."""

    report: FineTuneReport
    metric: str
    constant: str
    """Heading of the floor."""
    lines: tuple[TunedLine, ...]


def tuned_sections(reports: Sequence[FineTuneReport]) -> list[TunedSection]:
    """A section for each task, of its newest checkpoint.

    Args:
        reports: By task, then by step.
    """
    newest = {report.task["name"]: report for report in reports}
    return [
        TunedSection(
            report=report,
            metric=metric_heading(report.task["metric"]),
            constant="majority class" if report.task.get("classes") else "mean label",
            lines=tuple(_lines(report)),
        )
        for report in newest.values()
    ]


def _lines(report: FineTuneReport) -> Iterator[TunedLine]:
    metric = report.task["metric"]
    for name, part in report.representations.items():
        yield TunedLine(
            name=name,
            masked=False,
            constant=tell_spread(part.constant, metric),
            score=tell_spread(part.metrics, metric),
            epochs=_range(part.epochs),
        )
        for modality, found in part.masked.items():
            yield TunedLine(
                name=f"{name} without {modality}",
                masked=True,
                constant="",
                score=tell_spread(found.metrics, metric),
                epochs="",
            )


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
