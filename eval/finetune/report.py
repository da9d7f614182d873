"""The report of a fine-tuned backbone on one task, as JSON beside the run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from eval.comparison import Summary
from eval.finetune.tune import Epoch
from eval.probes.probe_report import Measured
from eval.records import Json, read_json

REPORT_FORMAT = 1
REPORTS_FOLDER = "finetunes"
"""Of a run; a folder for each checkpoint, a file for each task."""


@dataclass(frozen=True, kw_only=True)
class MaskedScores:
    """Models that were fine-tuned on a fusion, tested with one of its modalities masked."""

    metrics: Mapping[str, Summary]
    num_samples: tuple[int, ...]
    """Test samples that have another modality, by split."""


@dataclass(frozen=True, kw_only=True)
class TunedScores(Measured):
    """One representation, fine-tuned anew on every split."""

    modalities: tuple[str, ...]
    """Whose encoders it reads here; the others were not run."""
    split_sizes: tuple[Mapping[str, int], ...]
    """Samples of each part, by split."""
    constant: Mapping[str, Summary]
    """The metrics of one answer for all: the training part's commonest class, or its mean."""
    validation: tuple[float, ...]
    """Macro-F1, or the mean absolute error of numbers, of the chosen epoch, by split."""
    epochs: tuple[int, ...]
    """What validation chose, by split; from 1."""
    curves: tuple[tuple[Epoch, ...], ...]
    """Every epoch, by split."""
    masked: Mapping[str, MaskedScores]
    """By the modality that was masked; of fusions of two or more, where every split has test
    samples that have another one."""


@dataclass(frozen=True, kw_only=True)
class FineTuneReport:
    """Everything that was measured, and all that decides whether it may be compared."""

    task: Mapping[str, Any]
    """The task's card."""
    checkpoint: Mapping[str, Any]
    """Name and digest, of a checkpoint also its step; no path, because reports travel."""
    shards: Mapping[str, Any]
    """Digest of the shard set, samples used and left out."""
    protocol: Mapping[str, Any]
    """How it was fine-tuned, split and selected."""
    representations: Mapping[str, TunedScores]
    missing: Mapping[str, str]
    """Representations that no sample can give, each with its reason."""
    findings: tuple[str, ...]
    """What a reader of the scores must know."""

    def to_json(self) -> Json:
        """The report as it is written."""
        return {"format": REPORT_FORMAT, **asdict(self)}


def read_report(path: Path) -> FineTuneReport:
    """Read a report back.

    Raises:
        ValueError: No file, no JSON, another format version, or fields that are not a report's.
    """
    record = read_json(path)
    if record.pop("format", None) != REPORT_FORMAT:
        raise ValueError(f"{path}: not a fine-tuning report of format {REPORT_FORMAT}")
    try:
        return TypeAdapter(FineTuneReport).validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: no fine-tuning report: {place}: {first['msg']}") from None


def read_fine_tunes(run: Path) -> list[FineTuneReport]:
    """All fine-tuning reports of a run, by task, then by step; none where there are none.

    Raises:
        ValueError: One cannot be read; names it.
    """
    reports = []
    for path in sorted((run / REPORTS_FOLDER).glob("*/*.json")):
        try:
            reports.append(read_report(path))
        except ValueError as error:
            raise ValueError(f"{error}; remove it, then fine-tune again") from None
    return sorted(reports, key=lambda one: (one.task["name"], one.checkpoint.get("step", 0)))
