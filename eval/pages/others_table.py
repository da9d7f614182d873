"""The other probes of a report (kNN, attentive, few-shot) beside the linear one, as one table."""

from collections.abc import Mapping
from dataclasses import dataclass

from eval.comparison import Comparison, Summary
from eval.probes.probe_report import KIND_NOTES, ProbeReport

LINEAR = "linear"


@dataclass(frozen=True, kw_only=True)
class OtherCell:
    """One probe of one representation."""

    score: Summary
    versus_random: Comparison


@dataclass(frozen=True, kw_only=True)
class OthersTable:
    """A row for each representation that any other probe was made of."""

    columns: tuple[str, ...]
    """Names of the probes; the linear one first."""
    rows: Mapping[str, Mapping[str, OtherCell]]
    """By representation, then by probe; what cannot be had is left out."""
    note: str


def others_table(report: ProbeReport) -> OthersTable | None:
    """The table; None where no other probe was asked for."""
    names = dict.fromkeys(name for part in report.subsets.values() for name in part.others)
    if not names:
        return None
    metric = report.task["metric"]
    rows = {}
    for subset, part in report.subsets.items():
        if not part.others:
            continue
        rows[subset] = {
            LINEAR: OtherCell(
                score=part.pretrained.metrics[metric], versus_random=part.versus_random
            )
        } | {
            name: OtherCell(
                score=other.pretrained.metrics[metric], versus_random=other.versus_random
            )
            for name, other in part.others.items()
        }
    return OthersTable(columns=(LINEAR, *names), rows=rows, note=_note(report))


def _note(report: ProbeReport) -> str:
    """What must be known of each kind of probe, and what cannot be had, with the reason."""
    told = ["below: gain over random weights, probed alike"]
    names = {name for part in report.subsets.values() for name in part.others}
    told += [
        note for kind, note in KIND_NOTES.items() if any(name.startswith(kind) for name in names)
    ]
    reasons: dict[str, list[str]] = {}
    for subset, part in report.subsets.items():
        for name, reason in part.others_missing.items():
            reasons.setdefault(f"{subset}: {reason}", []).append(name)
    told += [f"no {', '.join(names)} of {where}" for where, names in reasons.items()]
    return "; ".join(told)
