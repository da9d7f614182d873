"""What a run folder holds, read for the report; missing parts are empty, broken lines counted."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.card import task_name
from eval.finetune.report import FineTuneReport, read_fine_tunes
from eval.pages.retrieval_record import StoredRetrieval, read_retrievals
from eval.probes.best import Choice, choose_best, read_checkpoints, way
from eval.probes.embedding_map import EmbeddingMap, map_from_json
from eval.probes.probe_report import ProbeReport, report_from_json
from eval.records import read_json
from pretrain.checkpoint import COMPLETE
from pretrain.health.verdict import Verdict, verdict_from_json
from pretrain.models.sums import SUMS_FILE

RUN_PARTS = ("config.json", "metrics.jsonl", "checkpoints", "probes")
NO_RUNS = {
    COMPLETE: "a checkpoint",
    SUMS_FILE: "a published backbone",
    "model.safetensors": "a backbone",
}
"""What a folder is that holds such a file: a page within it would spoil its sums."""
_IMAGE_URI = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, kw_only=True)
class SampleViews:
    """One training triple and what the views made of it; pictures are data URIs, checked."""

    key: str
    text: str
    text_views: tuple[str, ...]
    image: str | None
    image_views: tuple[str, ...]
    spectrogram: str | None
    spectrogram_views: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HealthRecord:
    """The verdict of the last look, and what was found when."""

    verdict: Verdict
    history: tuple[tuple[int, str], ...]
    """(step, sentence), ascending; a finding is told when it is new."""


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """A run's scores, and what they are told with."""

    config: Mapping[str, Any]
    digests: Mapping[str, str]
    """Of the checkpoints that are there, by name."""
    probes: tuple[ProbeReport, ...]
    """By task, then by step; not of weights that others have replaced."""
    fine_tunes: tuple[FineTuneReport, ...]
    """Likewise."""
    choice: Choice
    """The best checkpoint."""


@dataclass(frozen=True, kw_only=True)
class RunRecord(ScoredRun):
    """All that the report shows."""

    name: str
    metrics: Mapping[str, list[tuple[float, float]]]
    """By name: (step, value)."""
    maps: Mapping[tuple[str, str], EmbeddingMap]
    """Embedding maps by task and digest of the checkpoint."""
    retrievals: tuple[StoredRetrieval, ...]
    """The newest answer to each question of ``triptych retrieve``."""
    views: tuple[SampleViews, ...]
    checkpoints: tuple[str, ...]
    health: HealthRecord | None
    """What the rules found; None where the run has no ``health.jsonl``."""
    num_broken_lines: int
    """Lines of ``metrics.jsonl`` that are no JSON object with a step, and of ``health.jsonl`` that
    are no record of a look."""


def read_run(run: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        ValueError: As `read_scores`; or a retrieval report, a map or the views cannot be read.
    """
    scored = read_scores(run)
    metrics, broken_metrics = _read_metrics(run / "metrics.jsonl")
    health, broken_health = _read_health(run / "health.jsonl")
    return RunRecord(
        **vars(scored),
        name="/".join(run.resolve().parts[-2:]),
        metrics=metrics,
        maps=_read_maps(run / "maps"),
        retrievals=read_retrievals(run, scored.digests),
        views=_read_views(run / "views" / "views.json"),
        checkpoints=tuple(
            path.parent.name for path in sorted(run.glob("checkpoints/step-????????/COMPLETE"))
        ),
        health=health,
        num_broken_lines=broken_metrics + broken_health,
    )


def read_scores(run: Path) -> ScoredRun:
    """Read a run's probes and fine-tuned models, and nothing that is not told with them.

    Raises:
        ValueError: The folder does not exist, holds nothing of a run, or is a checkpoint or a
            backbone; or its configuration, a probe or a fine-tuning report cannot be read.
    """
    for name, what in NO_RUNS.items():
        if (run / name).exists():
            raise ValueError(f"{run}: it is {what}, it holds {name}; give the run folder")
    if not any((run / name).exists() for name in RUN_PARTS):
        raise ValueError(f"{run}: no run folder: it holds none of {', '.join(RUN_PARTS)}")
    path = run / "config.json"
    config = read_json(path) if path.is_file() else {}
    checkpoints = read_checkpoints(run)
    digests = {name: digest for name, (digest, _) in checkpoints.items()}
    probes = _read_probes(run / "probes", digests)
    tasks = [task_name(task) for task in config.get("probe_tasks") or ()]
    choice = choose_best(probes, tasks, dict(checkpoints.values()))
    return ScoredRun(
        config=config,
        digests=digests,
        probes=probes,
        fine_tunes=tuple(one for one in read_fine_tunes(run) if _still_there(one, digests)),
        choice=choice,
    )


def made_alike(probes: Sequence[ProbeReport]) -> list[ProbeReport]:
    """Those whose card, shards and protocol are the newest one's of their task: one curve.

    Args:
        probes: By step within each task.
    """
    newest = {report.task["name"]: way(report) for report in probes}
    return [report for report in probes if way(report) == newest[report.task["name"]]]


def _read_metrics(path: Path) -> tuple[dict[str, list[tuple[float, float]]], int]:
    series: dict[str, list[tuple[float, float]]] = {}
    broken = 0
    if not path.is_file():
        return series, broken
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            step = float(record["step"])
        except (ValueError, TypeError, KeyError):
            broken += 1  # a line cut short by a kill
            continue
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                series.setdefault(name, []).append((step, float(value)))
    return {name: sorted(points) for name, points in series.items()}, broken


def _read_health(path: Path) -> tuple[HealthRecord | None, int]:
    verdict, history, broken = None, [], 0
    for line in path.read_text("utf-8", "replace").splitlines() if path.is_file() else []:
        try:
            record = json.loads(line)
            found = verdict_from_json(record["verdict"], str(path))
            news = [(int(record["step"]), str(sentence)) for sentence in record["news"]]
        except (ValueError, TypeError, KeyError):
            broken += 1  # a line cut short by a kill
            continue
        verdict = found
        history += news
    return (HealthRecord(verdict=verdict, history=tuple(history)) if verdict else None), broken


def _read_probes(folder: Path, digests: Mapping[str, str]) -> tuple[ProbeReport, ...]:
    """Reports, without those of weights whose place others have taken.

    Args:
        folder: Of the reports.
        digests: Of the checkpoints that are there, by name.
    """
    reports = []
    for path in sorted(folder.glob("*/*.json")):
        try:
            report = report_from_json(read_json(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; remove it or probe again") from None
        if _still_there(report, digests):
            reports.append(report)
    return tuple(
        sorted(reports, key=lambda report: (report.task["name"], report.checkpoint["step"]))
    )


def _still_there(report: ProbeReport | FineTuneReport, digests: Mapping[str, str]) -> bool:
    """Whether the place of its weights is theirs, or empty."""
    made_of = report.checkpoint["digest"]
    return digests.get(report.checkpoint["name"], made_of) == made_of


def _read_maps(folder: Path) -> dict[tuple[str, str], EmbeddingMap]:
    made = {}
    for path in sorted(folder.glob("*/*.json")):
        try:
            found = map_from_json(read_json(path))
            _refuse_undrawable(found)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; remove it or probe again") from None
        made[found.task, str(found.checkpoint["digest"])] = found
    return made


def _refuse_undrawable(found: EmbeddingMap) -> None:
    for key in ("name", "digest"):
        if not isinstance(found.checkpoint.get(key), str):
            raise ValueError(f"not an embedding map: its checkpoint has no {key}")
    for name, made in found.projections.items():
        if not made.places or not all(math.isfinite(x + y) for x, y in made.places):
            raise ValueError(f"not an embedding map: {name} has no places, or some at infinity")


def _read_views(path: Path) -> tuple[SampleViews, ...]:
    if not path.is_file():
        return ()
    samples = read_json(path).get("samples")
    if not isinstance(samples, list):
        raise ValueError(f"{path}: expected a list under 'samples'")
    return tuple(_sample(record) for record in samples if isinstance(record, dict))


def _sample(record: Mapping[str, Any]) -> SampleViews:
    return SampleViews(
        key=str(record.get("key", "")),
        text=str(record.get("text") or ""),
        text_views=tuple(str(view) for view in record.get("text_views") or ()),
        image=_picture(record.get("image")),
        image_views=_pictures(record.get("image_views")),
        spectrogram=_picture(record.get("spectrogram")),
        spectrogram_views=_pictures(record.get("spectrogram_views")),
    )


def _picture(value: object) -> str | None:
    """A picture inside the page; anything else, such as an address to fetch, is left out."""
    return value if isinstance(value, str) and _IMAGE_URI.fullmatch(value) else None


def _pictures(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(picture for picture in map(_picture, values) if picture is not None)
