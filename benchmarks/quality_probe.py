"""Probing the arms: one JSON file for each task and arm, made once and found again."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from quality_arms import Trained
from quality_tasks import PLANS, Prepared

from data_sharding.schema import MODALITIES
from eval.card import Task
from eval.probes.arms import ArmScores, probe_arms
from eval.probes.features import recompute_batch_norm
from eval.probes.probe import ProbeConfig
from eval.probes.raw_features import RAW, raw_scores
from eval.records import read_json, write_json
from eval.representations import FUSED_SUBSETS
from eval.splits import SplitConfig
from eval.tasks import open_task
from pretrain.models import Backbone

MAJORITY, RANDOM = "majority", "random"
MISSING_TASKS = ("tuxpaint", "art4apps", "mvsa")
"""Tasks whose samples have more than one modality, for the table of missing ones."""

Rows = Literal["own", "shared"]


@dataclass(frozen=True, kw_only=True)
class Probing:
    """How often, and with how many processes."""

    splits: int = 10
    """Group-wise splits of what was held out; the labels of the rest join every training part."""

    workers: int = 2
    """Processes that fit classifiers."""

    def config(self, names: Sequence[str], rows: Rows) -> ProbeConfig:
        """Half of what was held out is tested: the training part has the pretraining rows too."""
        return ProbeConfig(
            splits=SplitConfig(num_splits=self.splits, test_share=0.5, validation_share=0.2),
            representations=tuple(names),
            rows=rows,
            fit_workers=self.workers,
        )


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What one arm and seed scored on one task."""

    scores: Mapping[str, Sequence[float]]
    """By representation: macro-F1 of each split, in [0, 1]."""
    majority: Mapping[str, Sequence[float]]
    test_share: Mapping[str, float]
    num_samples: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One task with the representations that are read from it."""

    task: Task
    config: ProbeConfig
    folder: Path
    """For the answers, one file for each arm."""


def table_question(name: str, prepared: Prepared, probing: Probing, out: Path) -> Question:
    """What the main table reads from a task: its rows' representations."""
    plan = PLANS[name]
    names = dict.fromkeys(plan.rows.values())
    return Question(
        task=open_task(prepared.tasks[name]),
        config=probing.config(tuple(names), "own"),
        folder=out / "probes" / name,
    )


def missing_question(name: str, prepared: Prepared, probing: Probing, out: Path) -> Question:
    """Each subset of a task's modalities through the fusion, and each modality alone."""
    has = set(PLANS[name].modalities)
    subsets = [subset for subset, parts in FUSED_SUBSETS.items() if set(parts) <= has]
    alone = [modality for modality in MODALITIES if modality in has]
    return Question(
        task=open_task(prepared.tasks[name]),
        config=probing.config((*alone, *subsets), "shared"),
        folder=out / "probes" / f"{name}-missing",
    )


def probe_trained(question: Question, runs: Sequence[Trained]) -> dict[str, Marks]:
    """Marks of trained arms by `Trained.name`; only those that are not there yet are made."""
    by_name = {run.name: run.backbone for run in runs}
    identities = {name: _identity(question, folder) for name, folder in by_name.items()}
    lacking = [name for name in by_name if not _known(question, name, identities[name])]
    if lacking:
        backbones = {name: Backbone.load(by_name[name]) for name in lacking}
        _write(question, probe_arms(backbones, question.task, question.config), identities)
    return {name: _read(question, name) for name in by_name}


def probe_random(question: Question, like: Path, seeds: int) -> dict[str, Marks]:
    """Marks of fresh backbones of the same architecture, batch-norm statistics recomputed."""
    names = {f"{RANDOM}-{seed}": seed for seed in range(seeds)}
    identities = {
        name: {**_identity(question, like, "config.json"), "seed": seed}
        for name, seed in names.items()
    }
    lacking = [name for name in names if not _known(question, name, identities[name])]
    if lacking:
        backbones = {name: Backbone.random_like(like, names[name]) for name in lacking}
        recompute_batch_norm(list(backbones.values()), question.task)
        _write(question, probe_arms(backbones, question.task, question.config), identities)
    return {name: _read(question, name) for name in names}


def probe_raw(question: Question, decoding: Path) -> Marks:
    """Marks of the raw-feature baselines: n-grams, pixels, log-mel statistics."""
    identity = _identity(question, decoding, "config.json")
    if not _known(question, RAW, identity):
        scores = raw_scores(question.task, Backbone.load(decoding), question.config)
        _write(question, scores, {RAW: identity})
    return _read(question, RAW)


def _identity(question: Question, backbone: Path, decides: str = "model.safetensors") -> dict:
    """What an answer depends on; a file with another identity is made anew."""
    record = {
        "backbone": hashlib.sha256((backbone / decides).read_bytes()).hexdigest(),
        "shards": question.task.shards.digest,
        "splits": asdict(question.config.splits),
        "representations": question.config.representations,
        "rows": question.config.rows,
    }
    if question.config.copies != "refuse":
        record["copies"] = question.config.copies
    return json.loads(json.dumps(record))


def _known(question: Question, name: str, identity: Mapping[str, Any]) -> bool:
    path = question.folder / f"{name}.json"
    return path.exists() and read_json(path)["identity"] == identity


def _write(question: Question, scores: ArmScores, identities: Mapping[str, Any]) -> None:
    for name, marks in scores.scores.items():
        content = {
            "identity": identities[name],
            "scores": marks,
            "majority": scores.majority,
            "test_share": scores.test_share,
            "num_samples": scores.num_samples,
        }
        write_json(question.folder / f"{name}.json", content)


def _read(question: Question, name: str) -> Marks:
    content = read_json(question.folder / f"{name}.json")
    return Marks(**{key: value for key, value in content.items() if key != "identity"})


@contextmanager
def chapter(title: str) -> Iterator[None]:
    """A heading on the terminal."""
    print(f"\n== {title}", flush=True)
    yield
