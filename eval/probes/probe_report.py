"""The probe report: what one checkpoint is worth on one task, as JSON and as a table."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from eval.comparison import Comparison, Summary, comparison_from_json, summary_from_json
from eval.plain_text import plain_console
from eval.probes.late_fusion import EVEN_VOTE
from eval.records import Json
from eval.regression_metrics import LOWER_IS_BETTER, NO_SHARES

REPORT_FORMAT = 1
OTHERS = "others"
"""Under this a protocol tells of the other probes that were asked for."""
KIND_NOTES: Mapping[str, str] = {
    "attentive": "attentive: its random floor is one fresh backbone",
    "few-shot": "few-shot: few training labels, chosen on the whole validation part",
}
"""What a reader of the other probes' scores must know."""
VERDICTS: Mapping[bool | None, str] = {True: "yes", False: "no", None: "?"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was scored over all splits, on their test parts."""

    metrics: Mapping[str, Summary]
    """By metric; see `eval.metrics`."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts summed over splits; a row per true class. Empty where the label is a number."""
    undefined: Mapping[str, str] = field(default_factory=dict)
    """Metrics without a value, each with its reason."""


@dataclass(frozen=True, kw_only=True)
class ProbeScores(Measured):
    """One classifier."""

    inverse_regularisation: tuple[float | None, ...]
    """The C (of a regression: 1 / penalty) that validation chose in each split; None where there
    was nothing to choose."""
    num_unconverged_fits: int
    """Fits that stopped at the bound of iterations."""
    validation_macro_f1: tuple[float, ...] | None = None
    """On validation, by split, with the C chosen there; what checkpoints are chosen by. None for
    votes and averages, where the label is a number, and in older reports."""
    validation_mae: tuple[float, ...] | None = None
    """The same where the label is a number, with the penalty chosen there."""


@dataclass(frozen=True, kw_only=True)
class OtherProbe:
    """Another probe of a representation, over the same splits: see `eval.probes.other_probes`."""

    pretrained: ProbeScores
    random: ProbeScores
    """Scores averaged over fresh backbones, split by split."""
    random_seeds: Mapping[str, float]
    """Mean of the task's metric for each fresh backbone, by its seed."""
    versus_random: Comparison
    """As `SubsetReport.versus_random`."""
    num_trained_on: tuple[int, ...]
    """Training samples, by split."""
    chosen: tuple[Mapping[str, int | float], ...]
    """What validation chose of the pretrained backbone's probe, by split; of a linear one see
    ``inverse_regularisation``."""


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
    """``majority`` (``mean`` where the label is a number), ``shuffled``, ``random`` (scores
    averaged over fresh backbones, split by split) and, for text, ``tfidf``."""
    random_seeds: Mapping[str, float]
    """Mean of the task's metric for each fresh backbone, by its seed."""
    versus_random: Comparison
    """Task's metric, pretrained minus random, over the same splits; turned round where less is
    better, so that above 0 is always a gain."""
    others: Mapping[str, OtherProbe] = field(default_factory=dict)
    """Other probes that were asked for: ``knn``, ``attentive``, ``few-shot 1 %``, ..."""
    others_missing: Mapping[str, str] = field(default_factory=dict)
    """Other probes that were asked for and cannot be had of this representation, with the
    reason."""


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
    contamination: Mapping[str, Any] = field(default_factory=dict)
    """What of the test samples pretraining has seen; see `eval.probes.contamination`."""
    findings: tuple[str, ...] = ()
    """What a reader of the scores must know: see `eval.probes.findings`."""

    def to_json(self) -> Json:
        """The report as it is written; other probes only where there are any."""
        record = {"format": REPORT_FORMAT, **asdict(self)}
        for part in record["subsets"].values():
            for name in ("others", "others_missing"):
                if not part[name]:
                    del part[name]
        return record


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
        values["findings"] = tuple(record.get("findings", ()))
        return ProbeReport(**values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a probe report: {error}") from None


def linear_protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for linear scores to be compared: other probes change nothing of them."""
    return {key: value for key, value in protocol.items() if key != OTHERS}


def probe_table(report: ProbeReport) -> Table:
    """The report as a table, in percent, with 95 % intervals."""
    metric = report.task["metric"]
    constant = "mean" if report.task.get("label_range") else "majority"
    table = Table(
        title=f"{report.task['name']}: {metric_heading(metric)}, {report.checkpoint['name']}",
        caption=f"mean over {repeats(report)}; ± is half a 95 % interval"
        + ("; late: even vote of the modalities' probes" if EVEN_VOTE in report.subsets else ""),
    )
    table.add_column("", style="bold")
    for heading in (constant, "shuffled", "TF-IDF", "random", "pretrained", "gain", "beats"):
        table.add_column(heading, justify="right", no_wrap=True)
    for subset, part in report.subsets.items():
        floors = [part.floors.get(floor) for floor in (constant, "shuffled", "tfidf", "random")]
        cells = [tell(floor.metrics[metric], metric) if floor else "" for floor in floors]
        gain = tell(part.versus_random.difference, metric, signed=True)
        verdict = VERDICTS[part.versus_random.beats]
        table.add_row(subset, *cells, tell(part.pretrained.metrics[metric], metric), gain, verdict)
    for subset in report.missing:
        table.add_row(subset, *[""] * 6, "not probed")
    return table


def others_table(report: ProbeReport) -> Table:
    """The other probes as a table, each beside the same of random weights."""
    metric, asked = report.task["metric"], report.protocol.get(OTHERS, {})
    notes = [note for kind, note in KIND_NOTES.items() if kind in asked]
    table = Table(title="Other probes", caption="; ".join(notes) or None)
    table.add_column("", style="bold")
    table.add_column("probe", no_wrap=True)
    for heading in ("random", "pretrained", "gain", "beats"):
        table.add_column(heading, justify="right", no_wrap=True)
    for subset, part in report.subsets.items():
        for name, other in part.others.items():
            scores = [tell(one.metrics[metric], metric) for one in (other.random, other.pretrained)]
            gain = tell(other.versus_random.difference, metric, signed=True)
            table.add_row(subset, name, *scores, gain, VERDICTS[other.versus_random.beats])
    return table


def format_table(report: ProbeReport, width: int = 110) -> str:
    """The table as plain text, for a terminal or a log file."""
    stream = io.StringIO()
    console = plain_console(stream, width)
    console.print(probe_table(report))
    if any(part.others for part in report.subsets.values()):
        console.print(others_table(report))
    for subset, reason in report.missing.items():
        console.print(f"{subset}: {reason}")
    for subset, part in report.subsets.items():
        for name, reason in part.others_missing.items():
            console.print(f"{subset}, {name}: {reason}")
    for sentence in report.findings:
        console.print(sentence)
    return stream.getvalue()


def score_line(report: ProbeReport) -> str:
    """In one line: each representation's score, and its gain over random weights."""
    metric = report.task["metric"]
    scores = ", ".join(
        f"{subset} {tell(part.pretrained.metrics[metric], metric)} "
        f"({tell(part.versus_random.difference, metric, signed=True)} over random)"
        for subset, part in report.subsets.items()
    )
    return f"{report.checkpoint['name']} on {report.task['name']}: {scores}"


def metric_heading(metric: str) -> str:
    """The metric's name with its unit, and whether less is better."""
    name = metric.replace("_", "-")
    if metric not in NO_SHARES:
        return f"{name} in %"
    return f"{name} (less is better)" if metric in LOWER_IS_BETTER else name


def repeats(report: ProbeReport) -> str:
    """What a score is the mean over, in words."""
    splits = report.protocol["splits"]
    if "train_share" not in splits:
        return random_splits(report.task, splits["num_splits"])
    share = 100 * splits["train_share"]
    return (
        f"{splits['num_splits']} draws of {share:.0f} % of the authors' training groups, tested on "
        "their test part, whose groups are bootstrapped for the interval"
    )


def random_splits(card: Mapping[str, Any], count: int) -> str:
    """That many splits of a task whose parts no author fixed, in words."""
    kind = "group-wise" if card.get("group_key") else "random"
    return f"{count} {kind} splits, the interval corrected for their overlap"


def tell(summary: Summary, metric: str, signed: bool = False) -> str:
    """``43.9 ± 0.8``, as `tell_value` tells each; without half the interval where there is none."""
    mean = tell_value(summary.mean, metric, "+" if signed else "")
    if summary.interval is None:
        return mean
    return f"{mean} ± {tell_value((summary.interval.high - summary.interval.low) / 2, metric)}"


def tell_value(value: float, metric: str, sign: str = "") -> str:
    """In percent, or as a number where the metric is no share; ``+`` as sign tells it always."""
    return f"{value:{sign}.3f}" if metric in NO_SHARES else f"{100 * value:{sign}.1f}"


def _subset(record: Mapping[str, Any]) -> SubsetReport:
    values = dict(record)
    values["split_sizes"] = tuple(record["split_sizes"])
    values["classes_absent_from_test"] = tuple(map(tuple, record["classes_absent_from_test"]))
    values["pretrained"] = _scores(record["pretrained"])
    values["floors"] = {name: _scores(part) for name, part in record["floors"].items()}
    values["versus_random"] = comparison_from_json(record["versus_random"])
    values["others"] = {name: _other(part) for name, part in record.get("others", {}).items()}
    return SubsetReport(**values)


def _other(record: Mapping[str, Any]) -> OtherProbe:
    values = dict(record)
    values |= {name: _scores(record[name]) for name in ("pretrained", "random")}
    values["versus_random"] = comparison_from_json(record["versus_random"])
    values |= {name: tuple(record[name]) for name in ("num_trained_on", "chosen")}
    return OtherProbe(**values)


def _scores(record: Mapping[str, Any]) -> ProbeScores:
    validation, error = record.get("validation_macro_f1"), record.get("validation_mae")
    return ProbeScores(
        metrics={name: summary_from_json(part) for name, part in record["metrics"].items()},
        confusion=tuple(map(tuple, record["confusion"])),
        inverse_regularisation=tuple(record["inverse_regularisation"]),
        num_unconverged_fits=record["num_unconverged_fits"],
        validation_macro_f1=None if validation is None else tuple(validation),
        validation_mae=None if error is None else tuple(error),
        undefined=dict(record.get("undefined", {})),
    )
