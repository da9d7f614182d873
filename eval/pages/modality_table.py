"""What each subset of the modalities is worth, fused: one table of a probe report."""

from collections.abc import Mapping
from dataclasses import dataclass

from data_sharding.schema import MODALITIES
from eval.comparison import Comparison, Summary
from eval.pages.paired_reports import pair_parts
from eval.probes.probe_report import ProbeReport, SubsetReport
from eval.representations import FUSED_SUBSETS, modalities_of

_UNPAIRED = (
    "what it costs to lack the others is told where both were scored on the same samples alone "
    "(triptych probe --rows shared takes those that have every modality)"
)


@dataclass(frozen=True, kw_only=True)
class SubsetRow:
    """The fusion of exactly these modalities."""

    name: str
    modalities: tuple[str, ...]
    num_samples: int
    score: Summary
    random: Summary
    versus_random: Comparison
    lost: Summary | None
    """What it costs to lack the other modalities: the whole minus this, above 0 where the whole is
    better; None of the whole, and where the two were not scored on the same splits of samples."""
    verdict: bool | None
    """Whether the cost exceeds its interval."""


@dataclass(frozen=True, kw_only=True)
class ModalityTable:
    """All subsets that were probed; at least two."""

    rows: tuple[SubsetRow, ...]
    alone: Mapping[str, Summary]
    """The encoder's own features, without the fusion, by modality."""
    note: str


def modality_table(report: ProbeReport) -> ModalityTable | None:
    """The table; None where fewer than two fused subsets were probed."""
    names = [name for name in FUSED_SUBSETS if name in report.subsets]
    if len(names) < 2:
        return None
    whole = max(names, key=lambda name: len(modalities_of(name)))
    metric = report.task["metric"]
    rows = tuple(_row(report, name, whole) for name in names)
    used = {part for name in names for part in modalities_of(name)}
    paired = all(row.lost is not None for row in rows if row.name != whole)
    return ModalityTable(
        rows=rows,
        alone={
            name: report.subsets[name].pretrained.metrics[metric]
            for name in MODALITIES
            if name in used and name in report.subsets
        },
        note="the fusion of exactly these modalities, the others masked"
        + ("" if paired else f"; {_UNPAIRED}"),
    )


def _row(report: ProbeReport, name: str, whole: str) -> SubsetRow:
    metric, part = report.task["metric"], report.subsets[name]
    lost = None
    within = set(modalities_of(name)) < set(modalities_of(whole))
    if within and _same_samples(report.subsets[whole], part):
        lost = pair_parts(report.task, report.subsets[whole], part)
    return SubsetRow(
        name=name,
        modalities=modalities_of(name),
        num_samples=part.num_samples,
        score=part.pretrained.metrics[metric],
        random=part.floors["random"].metrics[metric],
        versus_random=part.versus_random,
        lost=lost.gain if lost else None,
        verdict=None if lost is None or lost.p is None else lost.p < 0.05,
    )


def _same_samples(whole: SubsetReport, part: SubsetReport) -> bool:
    """Whether both were scored on the same samples.

    A subset can be read from every sample of the whole, so equal counts are equal samples.
    """
    return whole.split_sizes == part.split_sizes
