"""Probe a checkpoint on a task: frozen features, linear probe, floors, one report."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_sharding.schema import MODALITIES
from eval.card import Task, TaskCard
from eval.probes.checkpoint_features import checkpoint_features, device_of
from eval.probes.contamination import find_contamination
from eval.probes.embedding_map import has_map, make_map, map_path
from eval.probes.equal_words import TaskSplits, split_task
from eval.probes.features import Features
from eval.probes.findings import findings
from eval.probes.other_probes import keep_others, probe_others
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
from pretrain.checkpoint import Checkpoint

logger = logging.getLogger(__name__)


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
    answer = known if known is not None and _holds(known, protocol) else None
    if answer is not None and has_map(checkpoint, task.name, task.shards.digest):
        return answer
    samples, features = checkpoint_features(checkpoint, task, config)
    if answer is not None:
        _write_map(checkpoint, task, samples, features[PRETRAINED])
        return answer
    report = _measure(checkpoint, task, config, (samples, features))
    _write_map(checkpoint, task, samples, features[PRETRAINED])
    if known is not None:
        report = keep_others(report, known)
    elif path.is_file():
        logger.warning("%s answers another question, or is older: it is replaced", path)
    write_json(path, report.to_json())
    return report


def _write_map(checkpoint: Checkpoint, task: Task, samples: TaskSamples, own: Features) -> None:
    identity, shards = describe_checkpoint(checkpoint), task.shards.digest
    drawn = make_map(task.card, identity, shards, samples, own.by_subset)
    write_json(map_path(checkpoint, task.name), drawn.to_json())


def _measure(
    checkpoint: Checkpoint,
    task: Task,
    config: ProbeConfig,
    read: tuple[TaskSamples, Mapping[str, Features]],
) -> ProbeReport:
    """The report, from the samples and what the backbones make of them."""
    samples, features = read
    names, rows = config.representations, config.rows
    used = {name: usable(name, task, samples, rows) for name in names}
    parts = split_task(task, samples, used, config.splits, config.copies)
    parts.refuse_nothing(task, "probe")
    subsets = _probe_subsets(task, samples, features, config, parts)
    contamination = find_contamination(checkpoint, task, samples)
    words = {name: part.told for name, part in parts.read.items()}
    return ProbeReport(
        task=_plain(task.card.to_json()),
        checkpoint=describe_checkpoint(checkpoint),
        shards=describe_shards(task, samples),
        protocol=describe_protocol(config, task.card),
        subsets=subsets,
        missing=parts.missing,
        contamination=contamination,
        findings=findings(subsets, task.card.classes, contamination, parts.num_dropped, words),
    )


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


def _probe_subsets(
    task: Task,
    samples: TaskSamples,
    features: Mapping[str, Features],
    config: ProbeConfig,
    parts: TaskSplits,
) -> dict[str, SubsetReport]:
    """Reports of the representations that a sample can give, and of their late fusion."""
    read = {name: part for name, part in parts.read.items() if part.splits}

    def problems(own: Sequence[Split], name: str, mask: np.ndarray) -> Sequence[Problem]:
        return split_problems(task, samples, own, config.grids, (name, mask))

    voting = [part.used for name, part in read.items() if name in MODALITIES]
    inputs = [
        _subset_input(name, task, samples, features, problems(part.splits, name, part.used))
        for name, part in read.items()
    ]
    votes = len(voting) > 1
    late = problems(parts.whole, "any modality", np.logical_or.reduce(voting)) if votes else []
    found = probe_subsets(inputs, late, config.fit_workers) if inputs else {}
    if not config.also:
        return found
    device = device_of(config.device)
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


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(record))
