"""What each subset of the modalities is worth, fused: one table of a probe report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from data_sharding.schema import MODALITIES
from eval.comparison import Comparison, Summary
from eval.pages.paired_reports import LEVEL, Paired, pair
from eval.pages.scored import linear_answer
from eval.probes.probe_report import ProbeReport, SubsetReport
from eval.representations import FUSED_SUBSETS, modalities_of

Effect = Literal["costs", "gains", "not told apart", "no verdict"]
EFFECTS: Mapping[Effect, str] = {"costs": "yes", "gains": "no"}
"""Class names of the page's style sheet: that the others help is good; of the rest ``none``."""
_TOLD = (
    "lacking the others costs, or gains, where the 95 % interval does not hold zero; each row "
    "stands for itself, nothing is corrected for their number"
)
_OTHER_SAMPLES = "what it costs is told where both were scored on the same samples"
_SHARED = "triptych probe RUN TASK --rows shared takes those that have every modality"
_NO_WHOLE = (
    "what it costs is told of parts of {whole} alone; for the others, name the fusion of all in "
    "--representations"
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
    effect: Effect | None
    """What lacking them does, by the interval of ``lost``; None without one."""


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
    return ModalityTable(
        rows=rows,
        alone={
            name: report.subsets[name].pretrained.metrics[metric]
            for name in MODALITIES
            if name in used and name in report.subsets
        },
        note="; ".join(
            [
                "the fusion of exactly these modalities, the others masked",
                *_notes(report, rows, whole),
            ]
        ),
    )


def _row(report: ProbeReport, name: str, whole: str) -> SubsetRow:
    metric, part = report.task["metric"], report.subsets[name]
    lost = None
    if _within(name, whole) and _same_samples(report.subsets[whole], part):
        scored = linear_answer(report).scored
        lost = pair(report.task, scored[whole], scored[name])
    return SubsetRow(
        name=name,
        modalities=modalities_of(name),
        num_samples=part.num_samples,
        score=part.pretrained.metrics[metric],
        random=part.floors["random"].metrics[metric],
        versus_random=part.versus_random,
        lost=lost.gain if lost else None,
        effect=_effect(lost) if lost else None,
    )


def _effect(lost: Paired) -> Effect:
    if lost.p is None:
        return "no verdict"
    if lost.p >= LEVEL:
        return "not told apart"
    return "costs" if lost.gain.mean > 0.0 else "gains"


def _notes(report: ProbeReport, rows: Sequence[SubsetRow], whole: str) -> Iterator[str]:
    """How costs are told, and why some are not."""
    if any(row.lost for row in rows):
        yield _TOLD
    untold = [row.name for row in rows if row.name != whole and row.lost is None]
    if any(_within(name, whole) for name in untold):
        shared = report.protocol.get("rows") == "shared"
        yield _OTHER_SAMPLES if shared else f"{_OTHER_SAMPLES} ({_SHARED})"
    if not all(_within(name, whole) for name in untold):
        yield _NO_WHOLE.format(whole=" + ".join(modalities_of(whole)))


def _within(name: str, whole: str) -> bool:
    return set(modalities_of(name)) < set(modalities_of(whole))


def _same_samples(whole: SubsetReport, part: SubsetReport) -> bool:
    """Whether both were scored on the same samples.

    A subset can be read from every sample of the whole, so equal counts are equal samples.
    """
    return whole.split_sizes == part.split_sizes
