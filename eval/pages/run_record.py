"""What a run folder holds, read for the report; missing parts are empty, broken lines counted."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.card import task_name
from eval.finetune.report import FineTuneReport, read_fine_tunes
from eval.pages.retrieval_record import StoredRetrieval, read_retrievals
from eval.probes.best import Choice, choose_best, read_checkpoints
from eval.probes.embedding_map import EmbeddingMap, map_from_json
from eval.probes.probe_report import ProbeReport, report_from_json
from eval.records import read_json
from pretrain.health.verdict import Verdict, verdict_from_json

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
class RunRecord:
    """All that the report shows."""

    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, list[tuple[float, float]]]
    """By name: (step, value)."""
    probes: tuple[ProbeReport, ...]
    """By task, then by step; not of weights that others have replaced."""
    choice: Choice
    """The best checkpoint."""
    maps: Mapping[tuple[str, str], EmbeddingMap]
    """Embedding maps by task and digest of the checkpoint."""
    retrievals: tuple[StoredRetrieval, ...]
    """The newest answer to each question of ``triptych retrieve``."""
    fine_tunes: tuple[FineTuneReport, ...]
    """By task, then by step; not of weights that others have replaced."""
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
        ValueError: The folder does not exist or holds nothing of a run; or a probe report, a
            fine-tuning or retrieval report, a map or the views cannot be read.
    """
    known = ("config.json", "metrics.jsonl", "checkpoints", "probes")
    if not any((run / name).exists() for name in known):
        raise ValueError(f"{run}: no run folder: it holds none of {', '.join(known)}")
    metrics, broken_metrics = _read_metrics(run / "metrics.jsonl")
    health, broken_health = _read_health(run / "health.jsonl")
    path = run / "config.json"
    config = read_json(path) if path.is_file() else {}
    checkpoints = read_checkpoints(run)
    digests = {name: digest for name, (digest, _) in checkpoints.items()}
    probes = _read_probes(run / "probes", digests)
    tasks = [task_name(task) for task in config.get("probe_tasks") or ()]
    return RunRecord(
        name="/".join(run.resolve().parts[-2:]),
        config=config,
        metrics=metrics,
        probes=probes,
        choice=choose_best(probes, tasks, dict(checkpoints.values())),
        maps=_read_maps(run / "maps"),
        retrievals=read_retrievals(run, digests),
        fine_tunes=tuple(one for one in read_fine_tunes(run) if _still_there(one, digests)),
        views=_read_views(run / "views" / "views.json"),
        checkpoints=tuple(
            path.parent.name for path in sorted(run.glob("checkpoints/step-????????/COMPLETE"))
        ),
        health=health,
        num_broken_lines=broken_metrics + broken_health,
    )


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
        except ValueError as error:
            raise ValueError(f"{path}: {error}; remove it") from None
        made[found.task, str(found.checkpoint["digest"])] = found
    return made


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
