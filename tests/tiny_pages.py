"""A run folder in which every part of a run's report has something to show."""

import dataclasses
import json

import numpy as np

from eval.comparison import Interval, summarise
from eval.finetune.report import REPORTS_FOLDER, FineTuneReport, MaskedScores, TunedScores
from eval.finetune.tune import Epoch
from eval.probes.embedding_map import EmbeddingMap, project
from eval.probes.probe_report import OtherProbe
from eval.probes.ranking import Recall
from eval.probes.retrieval import Direction, RetrievalReport
from eval.records import write_json
from eval.representations import FUSED_SUBSETS
from tiny_probes import DIGEST, SHARE, SIZES, report, subset

PIXEL = "data:image/png;base64,iVBORw0KGgo="
MANY = tuple(f"a rather long class name, number {place}" for place in range(12))
"""More classes than there are colours."""


def probes(step, classes=MANY):
    """All representations, with their late vote and two other probes."""
    values = [0.4 + 0.001 * step * (place % 3) / 10 for place in range(10)]
    names = ("text", "image", "audio", "fused", *FUSED_SUBSETS, "late")
    parts = []
    for place, name in enumerate(names):
        part = subset(name, [value + 0.01 * place for value in values], beats=place % 2 == 0)
        others = {}
        if name != "late":
            others = {kind: _other(part) for kind in ("knn", "attentive", "few-shot 1 %")}
        confusion = tuple(tuple(9 if a == b else (a + b) % 3 for a in range(12)) for b in range(12))
        own = dataclasses.replace(part.pretrained, confusion=confusion)
        missing = {} if others else {"knn": "it has no features of its own"}
        parts.append(
            dataclasses.replace(part, pretrained=own, others=others, others_missing=missing)
        )
    return report(parts, task={"classes": list(classes)}, step=step)


def _other(part):
    return OtherProbe(
        pretrained=part.pretrained,
        random=part.floors["random"],
        random_seeds={"0": 0.3},
        versus_random=part.versus_random,
        num_trained_on=(50,) * 10,
        chosen=({"k": 5.0},) * 10,
    )


def embedding_map(step, num_rows=200):
    generator = np.random.default_rng(0)
    classes = np.arange(num_rows) % len(MANY)
    return EmbeddingMap(
        task="mood",
        checkpoint={"name": f"step-{step:08d}", "step": step, "digest": DIGEST},
        shards=DIGEST,
        num_samples=5000,
        classes=MANY,
        projections={
            name: project(generator.normal(size=(num_rows, 8)).astype(np.float32), classes)
            for name in ("text", "fused")
        },
    )


def retrieval(value):
    chance = {"1": 0.1, "10": 0.5}
    recall = {
        cutoff: Recall(
            value=value,
            interval=Interval(low=value - 0.05, high=value + 0.05),
            chance=by_lot,
            above_chance=value - 0.05 > by_lot,
        )
        for cutoff, by_lot in chance.items()
    }
    found = RetrievalReport(
        shards=DIGEST,
        splits=("probe",),
        num_samples=321,
        protocol={"cutoffs": [1, 10]},
        directions={
            name: Direction(num_queries=30, num_gallery=30, median_rank=2.5, recall=recall)
            for name in ("text_to_image", "image_to_text")
        },
    )
    return found.to_json() | {"checkpoint": DIGEST, "seen_in_pretraining": False}


def fine_tune(step):
    made = {"macro_f1": summarise([0.61, 0.65], SHARE)}
    epochs = tuple(Epoch(loss=1.0 / place, validation=0.6) for place in (1, 2))
    fused = TunedScores(
        modalities=("text", "image"),
        split_sizes=(SIZES, SIZES),
        metrics=made,
        constant={"macro_f1": summarise([0.1, 0.1], SHARE)},
        undefined={},
        confusion=(),
        validation=(0.6, 0.6),
        epochs=(1, 2),
        curves=(epochs, epochs),
        masked={"text": MaskedScores(metrics=made, num_samples=(30, 30))},
    )
    mood = probes(step)
    return FineTuneReport(
        task=mood.task,
        checkpoint=mood.checkpoint,
        shards=mood.shards,
        protocol={},
        representations={"fused": fused},
        missing={},
        findings=("fused: nearly all predictions fall on one class: lower the learning rate",),
    )


def write_full_run(folder, steps=(100, 200)):
    """Everything that a run folder may hold for its page."""
    for step in steps:
        name = f"step-{step:08d}"
        write_json(folder / "probes" / name / "mood.json", probes(step).to_json())
        write_json(folder / REPORTS_FOLDER / name / "mood.json", fine_tune(step).to_json())
        answer = folder / "retrieval" / name / "mood-abababab-12345678.json"
        write_json(answer, retrieval(0.001 * step))
    write_json(folder / "maps" / name / "mood.json", embedding_map(steps[-1]).to_json())
    lines = [
        {"step": step, "samples": 64 * step, "loss/total": 4.0 / step, "schedule/tau": 0.99}
        for step in range(1, 30)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    write_json(folder / "config.json", {"a-very-long-option-name" * 3: "and-its-value" * 9})
    sample = {"key": "k" * 60, "text": "w" * 90, "text_views": ["x"], "image": PIXEL}
    write_json(folder / "views" / "views.json", {"samples": [sample | {"image_views": [PIXEL]}]})
    return folder
