"""Beside the main table: retrieval on unseen triples, missing modalities, late fusion."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quality_arms import Trained
from quality_probe import (
    MISSING_TASKS,
    RANDOM,
    Marks,
    Probing,
    missing_question,
    probe_trained,
)
from quality_table import FULL, line, percent_span, seeds_of
from quality_tasks import TEST, Prepared

from data_sharding.manifest import ShardSet
from eval.probes.arm_comparison import average_seeds
from eval.probes.features import recompute_batch_norm
from eval.probes.missing import WANTED, MissingModality, missing_modality
from eval.probes.retrieval import retrieve
from eval.records import read_json, write_json
from eval.representations import FUSED_SUBSETS
from eval.tasks import open_task
from pretrain.models import Backbone

RETRIEVAL_TASKS = ("tuxpaint", "art4apps")
"""Tasks whose held-out samples are natural triples."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What stands below the main table."""

    missing: Mapping[str, MissingModality]
    """By task, for `full`."""
    late: Mapping[str, Mapping[str, float]]
    """By task: macro-F1 in percent of the votes of single modalities, and of the fusion."""
    retrieval: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """By task and arm: the directions of `eval.probes.retrieval.RetrievalReport`."""

    def to_json(self) -> dict[str, Any]:
        """As it is recorded."""
        return {
            "missing": {task: asdict(found) for task, found in self.missing.items()},
            "late": self.late,
            "retrieval": self.retrieval,
        }

    def markdown(self) -> str:
        """As README shows it."""
        return "\n\n".join((self._retrieval(), self._missing(), self._late()))

    def _retrieval(self) -> str:
        heads = ("unseen triples, recall@1 / 5 / 10 in %", FULL, RANDOM, "chance")
        lines = [line(heads), line(["---"] * len(heads))]
        for task, arms in self.retrieval.items():
            for direction, found in arms[FULL].items():
                shown = [_recalls(arms[arm][direction], "value") for arm in (FULL, RANDOM)]
                name = f"{task}, {direction.replace('_', ' ')}"
                lines.append(line((name, *shown, _recalls(found, "chance"))))
        return "\n".join(lines)

    def _missing(self) -> str:
        heads = ("`full`, macro-F1 in %", *self.missing)
        lines = [line(heads), line(["---"] * len(heads))]
        for name in WANTED:
            means = [found.scores.get(name) for found in self.missing.values()]
            cells = ["" if one is None else f"{100 * one.mean:.1f}" for one in means]
            lines.append(line((name.replace("_", " "), *cells)))
        against = [_against_best(found) for found in self.missing.values()]
        return "\n".join([*lines, line(("all fused minus best part", *against))])

    def _late(self) -> str:
        heads = ("`full`, macro-F1 in %", *self.late)
        lines = [line(heads), line(["---"] * len(heads))]
        for name in dict.fromkeys(key for marks in self.late.values() for key in marks):
            cells = [f"{marks[name]:.1f}" if name in marks else "" for marks in self.late.values()]
            lines.append(line((name.replace("_", " "), *cells)))
        return "\n".join(lines)


def _recalls(direction: Mapping[str, Any], what: str) -> str:
    return " / ".join(f"{100 * recall[what]:.1f}" for recall in direction["recall"].values())


def _against_best(found: MissingModality) -> str:
    difference = found.whole_minus_best.difference
    span = percent_span(difference.interval_uncorrected)
    return f"{100 * difference.mean:+.1f} {span} ({found.best_part.replace('_', ' ')})"


def measure_extras(
    prepared: Prepared, runs: Sequence[Trained], probing: Probing, out: Path
) -> Extras:
    """All of it, from the runs of `full` and fresh backbones of its architecture."""
    full = [run for run in runs if run.arm == FULL]
    marks = {
        task: probe_trained(missing_question(task, prepared, probing, out), full)
        for task in MISSING_TASKS
    }
    backbone = full[0].backbone
    return Extras(
        missing={task: _missing(found) for task, found in marks.items()},
        late={task: _late(found) for task, found in marks.items()},
        retrieval={
            task: {
                arm: retrieval_directions(prepared.tasks[task], backbone, arm, out / "retrieval")
                for arm in (FULL, RANDOM)
            }
            for task in RETRIEVAL_TASKS
        },
    )


def _missing(marks: Mapping[str, Marks]) -> MissingModality:
    first = next(iter(marks.values()))
    wanted = [name for name in first.scores if name in WANTED]
    whole = max(FUSED_SUBSETS, key=lambda name: len(name) if name in wanted else 0)
    by_seed = {name: seeds_of(FULL, name, marks) for name in wanted}
    return missing_modality(by_seed, first.test_share[whole])


def _late(marks: Mapping[str, Marks]) -> dict[str, float]:
    """Votes with even weights, votes weighted on validation, and the fusion of embeddings."""
    first = next(iter(marks.values()))
    fused = [name for name in first.scores if name in FUSED_SUBSETS]
    names = {"late": "late", "late_weighted": "late weighted", max(fused, key=len): "fused"}
    means = {}
    for name, shown in names.items():
        scores = average_seeds(seeds_of(FULL, name, marks))
        means[shown] = 100.0 * sum(scores) / len(scores)
    return means


def retrieval_directions(task: Path, trained: Path, arm: str, folder: Path) -> dict[str, Any]:
    """Six directions among a task's held-out samples; made once for each set of weights.

    Args:
        task: Folder of the task.
        trained: A backbone's folder.
        arm: "random" searches with fresh weights of the backbone's architecture.
        folder: For the answers.
    """
    path = folder / f"{task.name}-{arm}.json"
    opened = open_task(task)
    model = Backbone.load(trained) if arm != RANDOM else Backbone.random_like(trained, 0)
    shards = ShardSet.open(task, TEST)
    weights = hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()
    identity = {"backbone": weights, "shards": shards.digest}
    if not path.exists() or read_json(path)["identity"] != identity:
        if arm == RANDOM:
            recompute_batch_norm([model], opened)
        report = retrieve(model, shards, opened.card.group_key)
        write_json(path, {"identity": identity, **report.to_json()})
    return read_json(path)["directions"]
