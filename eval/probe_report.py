"""The probe report: what one checkpoint is worth on one task, as JSON and as a table."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from eval.comparison import Comparison, Interval, Summary
from eval.late_fusion import EVEN_VOTE
from eval.records import Json

REPORT_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ProbeScores:
    """One classifier over all splits."""

    metrics: Mapping[str, Summary]
    """By metric; see `eval.metrics`."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts summed over splits; a row per true class."""
    inverse_regularisation: tuple[float | None, ...]
    """The C that validation chose in each split; None where there was nothing to choose."""
    num_unconverged_fits: int
    """Fits that stopped at the bound of iterations."""
    validation_macro_f1: tuple[float, ...] | None = None
    """On validation, by split, with the C chosen there; what checkpoints are chosen by. None for
    votes and averages, and in older reports."""


@dataclass(frozen=True, kw_only=True)
class SubsetReport:
    """One representation: a modality, the fusion, or ``late``: the vote of the modalities."""

    subset: str
    dim: int
    """Of the features; of ``late``: of all that vote."""
    num_samples: int
    num_groups: int
    split_sizes: tuple[Mapping[str, int], ...]
    """Samples of each part, by split."""
    classes_absent_from_test: tuple[tuple[str, ...], ...]
    """By split; such a class counts with an F1 of 0 in macro-F1."""
    pretrained: ProbeScores
    floors: Mapping[str, ProbeScores]
    """``majority``, ``shuffled``, ``random`` (scores averaged over fresh backbones, split by
    split) and, for text, ``tfidf``."""
    random_seeds: Mapping[str, float]
    """Mean of the task's metric for each fresh backbone, by its seed."""
    versus_random: Comparison
    """Task's metric, pretrained minus random, over the same splits."""


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """Everything that was measured, and all that decides whether it may be compared."""

    task: Mapping[str, Any]
    """The task's card."""
    checkpoint: Mapping[str, Any]
    """Name, step, samples consumed and digest; no path, because reports travel."""
    shards: Mapping[str, Any]
    """Digest of the shard set, samples used and left out."""
    protocol: Mapping[str, Any]
    """Splits, grid, floors and the meaning of the intervals."""
    subsets: Mapping[str, SubsetReport]
    missing: Mapping[str, str]
    """Subsets that were not probed, each with its reason."""

    def to_json(self) -> Json:
        """The report as it is written."""
        return {"format": REPORT_FORMAT, **asdict(self)}


def report_from_json(record: Mapping[str, Any]) -> ProbeReport:
    """Read a report back.

    Raises:
        ValueError: Another format version, or fields that are not a report's.
    """
    if record.get("format") != REPORT_FORMAT:
        raise ValueError(
            f"probe report format {record.get('format')!r}, this version reads {REPORT_FORMAT}"
        )
    try:
        values = {key: value for key, value in record.items() if key != "format"}
        values["subsets"] = {name: _subset(part) for name, part in record["subsets"].items()}
        return ProbeReport(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a probe report: {error}") from None


def probe_table(report: ProbeReport) -> Table:
    """The report as a table, in percent, with 95 % intervals."""
    metric = report.task["metric"]
    name = metric.replace("_", "-")
    table = Table(
        title=f"{report.task['name']}: {name} in %, {report.checkpoint['name']}",
        caption=f"mean over {report.protocol['splits']['num_splits']} group-wise splits; "
        "± is half a 95 % interval, corrected for overlapping splits"
        + ("; late: even vote of the modalities' probes" if EVEN_VOTE in report.subsets else ""),
    )
    table.add_column("", style="bold")
    for heading in ("majority", "shuffled", "TF-IDF", "random", "pretrained", "gain", "beats"):
        table.add_column(heading, justify="right", no_wrap=True)
    for subset, part in report.subsets.items():
        floors = [part.floors.get(floor) for floor in ("majority", "shuffled", "tfidf", "random")]
        cells = [percent(floor.metrics[metric]) if floor else "" for floor in floors]
        gain = percent(part.versus_random.difference, signed=True)
        verdict = {True: "yes", False: "no", None: "?"}[part.versus_random.beats]
        table.add_row(subset, *cells, percent(part.pretrained.metrics[metric]), gain, verdict)
    for subset in report.missing:
        table.add_row(subset, *[""] * 6, "not probed")
    return table


def format_table(report: ProbeReport, width: int = 110) -> str:
    """The table as plain text, for a terminal or a log file."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False)
    console.print(probe_table(report))
    for subset, reason in report.missing.items():
        console.print(f"{subset}: {reason}", markup=False, highlight=False)
    return stream.getvalue()


def score_line(report: ProbeReport) -> str:
    """In one line: each representation's score, and its gain over random weights."""
    metric = report.task["metric"]
    scores = ", ".join(
        f"{subset} {percent(part.pretrained.metrics[metric])} "
        f"({percent(part.versus_random.difference, signed=True)} over random)"
        for subset, part in report.subsets.items()
    )
    return f"{report.checkpoint['name']} on {report.task['name']}: {scores}"


def percent(summary: Summary, signed: bool = False) -> str:
    """``43.9 ± 0.8``; without the half interval where there is none."""
    mean = f"{100 * summary.mean:{'+' if signed else ''}.1f}"
    if summary.interval is None:
        return mean
    return f"{mean} ± {50 * (summary.interval.high - summary.interval.low):.1f}"


def _subset(record: Mapping[str, Any]) -> SubsetReport:
    values = dict(record)
    values["split_sizes"] = tuple(record["split_sizes"])
    values["classes_absent_from_test"] = tuple(map(tuple, record["classes_absent_from_test"]))
    values["pretrained"] = _scores(record["pretrained"])
    values["floors"] = {name: _scores(part) for name, part in record["floors"].items()}
    versus = record["versus_random"]
    values["versus_random"] = Comparison(
        difference=_summary(versus["difference"]), beats=versus["beats"], reason=versus["reason"]
    )
    return SubsetReport(**values)


def _scores(record: Mapping[str, Any]) -> ProbeScores:
    validation = record.get("validation_macro_f1")
    return ProbeScores(
        metrics={name: _summary(part) for name, part in record["metrics"].items()},
        confusion=tuple(map(tuple, record["confusion"])),
        inverse_regularisation=tuple(record["inverse_regularisation"]),
        num_unconverged_fits=record["num_unconverged_fits"],
        validation_macro_f1=None if validation is None else tuple(validation),
    )


def _summary(record: Mapping[str, Any]) -> Summary:
    intervals = {
        name: Interval(**record[name]) if record[name] else None
        for name in ("interval", "interval_uncorrected")
    }
    return Summary(
        mean=record["mean"], sd=record["sd"], per_split=tuple(record["per_split"]), **intervals
    )
