"""Probe a checkpoint on a task: frozen features, linear probe, floors, one report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_sharding.schema import MODALITIES
from eval.card import Task, TaskCard
from eval.probes.contamination import find_contamination
from eval.probes.contents import honest_splits
from eval.probes.embedding_map import make_map, map_path
from eval.probes.equal_words import AsRead, missing_representations, splits_as_read
from eval.probes.features import Features, extract_features, recompute_batch_norm
from eval.probes.findings import findings
from eval.probes.other_probes import ATTENTIVE_SEEDS, keep_others, probe_others
from eval.probes.probe_config import ProbeConfig, describe_protocol
from eval.probes.probe_report import (
    OTHERS,
    ProbeReport,
    SubsetReport,
    linear_protocol,
    report_from_json,
)
from eval.probes.problems import split_problems, usable
from eval.probes.regression import Problem
from eval.probes.subset_probe import SubsetInput, probe_subsets
from eval.probes.subset_report import PRETRAINED, Measure
from eval.records import read_json, write_json
from eval.samples import TaskSamples
from eval.splits import Split
from pretrain.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from pretrain.models import Backbone


def probe(checkpoint: Checkpoint, task: Task, config: ProbeConfig) -> ProbeReport:
    """Measure a checkpoint on a task and write ``run/probes/<checkpoint>/<task>.json``.

    A report of the same checkpoint, shards, card and configuration is read back instead of
    made again, so a probe may be submitted twice. One that holds other probes besides answers as
    well; where it lacks some that are asked for, the new report keeps what it holds.

    Raises:
        ValueError: The task cannot be probed: see `eval.probes.features` and `eval.splits`.
        CheckpointError: The checkpoint changed since it was opened.
    """
    path = report_path(checkpoint, task)
    protocol = describe_protocol(config, task.card)
    known = _matching_report(path, checkpoint, task, protocol)
    if known is not None and _holds(known, protocol):
        return known
    samples, features = _read_features(checkpoint, task, config)
    splits, num_dropped = honest_splits(task, samples, config.splits, config.copies)
    used = {name: usable(name, task, samples, config.rows) for name in config.representations}
    used = {name: mask for name, mask in used.items() if mask.any()}
    read = splits_as_read(task, samples, splits, used, config.copies)
    subsets = _probe_subsets(task, samples, features, config, (splits, read))
    contamination = find_contamination(checkpoint, task, samples)
    words = {name: part.told for name, part in read.items()}
    report = ProbeReport(
        task=_plain(task.card.to_json()),
        checkpoint=describe_checkpoint(checkpoint),
        shards=describe_shards(task, samples),
        protocol=protocol,
        subsets=subsets,
        missing=missing_representations(task, config.representations, read),
        contamination=contamination,
        findings=findings(subsets, task.card.classes, contamination, num_dropped, words),
    )
    if known is not None:
        report = keep_others(report, known)
    own, shards = features[PRETRAINED].by_subset, task.shards.digest
    drawn = make_map(task.card, report.checkpoint, shards, samples, own)
    write_json(map_path(checkpoint, task.name), drawn.to_json())
    write_json(path, report.to_json())
    return report


def report_path(checkpoint: Checkpoint, task: Task) -> Path:
    """Where the report of this checkpoint and task lies."""
    return checkpoint.run / "probes" / checkpoint.folder.name / f"{task.name}.json"


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Identity of a checkpoint, without paths."""
    return {
        "name": checkpoint.folder.name,
        "step": checkpoint.step,
        "samples_consumed": checkpoint.samples_consumed,
        "digest": checkpoint.digest,
    }


def describe_shards(task: Task, samples: TaskSamples) -> dict[str, Any]:
    """Identity of the labelled shards, and what was used of them."""
    return {
        "digest": task.shards.digest,
        "num_samples": len(samples.ids),
        "num_only_trained_on": len(samples.ids) - samples.num_testable,
        "num_groups": len(set(samples.groups)),
        "num_unlabelled": samples.num_unlabelled,
        **_describe_labels(task.card, samples.labels),
    }


def _describe_labels(card: TaskCard, labels: np.ndarray) -> dict[str, Any]:
    if not card.is_regression:
        counts = {name: int((labels == place).sum()) for place, name in enumerate(card.classes)}
        return {"samples_per_class": counts}
    return {
        "labels": {
            "mean": float(labels.mean()),
            "sd": float(labels.std()),
            "below_zero": int((labels < 0).sum()),
            "zero": int((labels == 0).sum()),
            "above_zero": int((labels > 0).sum()),
        }
    }


def _matching_report(
    path: Path, checkpoint: Checkpoint, task: Task, protocol: dict[str, Any]
) -> ProbeReport | None:
    """The report that is there already, if its linear probe answers the same question.

    One of before validation scores were kept does not: the best checkpoint is chosen by them.
    """
    try:
        record = read_json(path)
        report = report_from_json(record)
        same = (
            record["checkpoint"] == describe_checkpoint(checkpoint)
            and record["task"] == _plain(task.card.to_json())
            and record["shards"]["digest"] == task.shards.digest
            and linear_protocol(record["protocol"]) == linear_protocol(protocol)
        )
        return report if same and _has_validation(report) else None
    except (ValueError, KeyError, TypeError):
        return None  # absent or unreadable: it is made again and replaced


def _holds(known: ProbeReport, protocol: dict[str, Any]) -> bool:
    """Whether it holds all other probes that are asked for, with the same options."""
    return protocol.get(OTHERS, {}).items() <= known.protocol.get(OTHERS, {}).items()


def _has_validation(report: ProbeReport) -> bool:
    parts = [part.pretrained for part in report.subsets.values()]
    return any(part.validation_macro_f1 or part.validation_mae for part in parts)


def _read_features(
    checkpoint: Checkpoint, task: Task, config: ProbeConfig
) -> tuple[TaskSamples, dict[str, Features]]:
    """Features of the checkpoint's backbone and of fresh ones, keyed by name or seed."""
    device = _device(config.device)
    found = open_checkpoint(checkpoint.folder).digest
    if found != checkpoint.digest:
        raise CheckpointError(
            f"{checkpoint.folder}: replaced since it was opened (digest {found[:12]}, expected "
            f"{checkpoint.digest[:12]}); probe it again by name"
        )
    seeds = range(config.num_random_backbones)
    fresh = {
        str(seed): Backbone.random_like(checkpoint.backbone, seed).to(device) for seed in seeds
    }
    recompute_batch_norm(list(fresh.values()), task, config.batch_size)
    backbones = {PRETRAINED: Backbone.load(checkpoint.backbone).to(device), **fresh}
    tokens_of = (PRETRAINED, *ATTENTIVE_SEEDS) if "attentive" in config.also else ()
    return extract_features(backbones, task, config.batch_size, config.representations, tokens_of)


def _probe_subsets(
    task: Task,
    samples: TaskSamples,
    features: Mapping[str, Features],
    config: ProbeConfig,
    splits: tuple[Sequence[Split], Mapping[str, AsRead]],
) -> dict[str, SubsetReport]:
    """Reports of the representations that a sample can give, and of their late fusion."""
    whole, read = splits[0], {name: part for name, part in splits[1].items() if part.splits}

    def problems(own: Sequence[Split], name: str, mask: np.ndarray) -> Sequence[Problem]:
        return split_problems(task, samples, own, config.grids, (name, mask))

    voting = [part.used for name, part in read.items() if name in MODALITIES]
    inputs = [
        _subset_input(name, task, samples, features, problems(part.splits, name, part.used))
        for name, part in read.items()
    ]
    votes = len(voting) > 1
    late = problems(whole, "any modality", np.logical_or.reduce(voting)) if votes else []
    found = probe_subsets(inputs, late, config.fit_workers) if inputs else {}
    if not config.also:
        return found
    device = _device(config.device)
    return probe_others(found, inputs, config.others, config.fit_workers, device)


def _subset_input(
    subset: str,
    task: Task,
    samples: TaskSamples,
    features: Mapping[str, Features],
    problems: Sequence[Problem],
) -> SubsetInput:
    texts = [text or "" for text in samples.texts] if subset == "text" else None
    return SubsetInput(
        subset=subset,
        pretrained=features[PRETRAINED].by_subset[subset],
        random={
            name: made.by_subset[subset] for name, made in features.items() if name != PRETRAINED
        },
        texts=texts,
        tokens={
            name: made.tokens.read_by(subset)
            for name, made in features.items()
            if made.tokens is not None
        },
        problems=problems,
        measure=Measure(
            classes=task.card.classes,
            metrics=task.card.metrics,
            metric=task.card.metric,
            sign=task.card.sign,
            fixed=samples.fixed is not None,
        ),
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("probe.device is cuda, but torch sees no GPU here; use cpu or auto")
    return torch.device(name)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(record))
