"""Probe a checkpoint on a task: frozen features, linear probe, floors, one report."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data_sharding.schema import MODALITIES
from eval.best import validation_score
from eval.card import Task
from eval.features import Features, extract_features, recompute_batch_norm
from eval.linear_probe import LinearProbeConfig, SplitProblem
from eval.probe_report import ProbeReport, SubsetReport, report_from_json
from eval.problems import Rows, split_problems, task_splits, usable
from eval.records import read_json, write_json
from eval.representations import SUBSETS, refuse_unknown
from eval.samples import TaskSamples
from eval.splits import SplitConfig
from eval.subset_probe import PRETRAINED, SubsetInput, probe_subsets
from pretrain.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from pretrain.models import Backbone


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How a checkpoint is probed; the same for it and for its floors."""

    splits: SplitConfig = field(default_factory=SplitConfig)
    linear: LinearProbeConfig = field(default_factory=LinearProbeConfig)
    num_random_backbones: int = 3
    """Fresh backbones of the same architecture (seeds 0, 1, ...) that make the random floor."""
    batch_size: int = 64
    """Samples of one forward pass."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where features are made; `auto` takes a GPU when there is one."""
    representations: tuple[str, ...] = SUBSETS
    """What is probed: `text`, `image`, `audio`, `fused` (whatever a sample has), or the fusion of
    exactly some modalities: `fused_text`, `fused_text_image`, ..."""
    rows: Rows = "own"
    """`own`: each is probed on all samples that it can be read from; `shared`: only on samples
    that have every modality of the task, so that representations can be compared."""
    fit_workers: int = 1
    """Processes that fit classifiers; scores do not depend on it."""

    def __post_init__(self) -> None:
        refuse_unknown(self.representations, "probe.representations")
        if self.fit_workers < 1:
            raise ValueError(f"probe.fit_workers must be at least 1, got {self.fit_workers}")
        if self.num_random_backbones < 1:
            raise ValueError(
                f"probe.num_random_backbones must be at least 1, got {self.num_random_backbones}"
            )
        if self.batch_size < 1:
            raise ValueError(f"probe.batch_size must be at least 1, got {self.batch_size}")


def probe(checkpoint: Checkpoint, task: Task, config: ProbeConfig) -> ProbeReport:
    """Measure a checkpoint on a task and write ``run/probes/<checkpoint>/<task>.json``.

    A report of the same checkpoint, shards, card and configuration is read back instead of
    made again, so a probe may be submitted twice.

    Raises:
        ValueError: The task cannot be probed: see `eval.features` and `eval.splits`.
        CheckpointError: The checkpoint changed since it was opened.
    """
    path = report_path(checkpoint, task)
    protocol = describe_protocol(config)
    known = _matching_report(path, checkpoint, task, protocol)
    if known is not None:
        return known
    samples, features = _read_features(checkpoint, task, config)
    subsets = _probe_subsets(task, samples, features, config)
    report = ProbeReport(
        task=_plain(task.card.to_json()),
        checkpoint=describe_checkpoint(checkpoint),
        shards=describe_shards(task, samples),
        protocol=protocol,
        subsets=subsets,
        missing={
            subset: f"no labelled sample of {task.name} has {subset}"
            for subset in config.representations
            if subset not in subsets
        },
    )
    write_json(path, report.to_json())
    return report


def report_path(checkpoint: Checkpoint, task: Task) -> Path:
    """Where the report of this checkpoint and task lies."""
    return checkpoint.run / "probes" / checkpoint.folder.name / f"{task.name}.json"


def describe_protocol(config: ProbeConfig) -> dict[str, Any]:
    """All that must be equal for two reports to be compared; the device is left out.

    What is probed is told where it is not the usual: older reports do not have it.
    """
    usual = config.representations == SUBSETS and config.rows == "own"
    chosen = {} if usual else {"representations": config.representations, "rows": config.rows}
    return _plain(
        chosen
        | {
            "splits": asdict(config.splits),
            "linear": asdict(config.linear),
            "num_random_backbones": config.num_random_backbones,
            "classifier": "multinomial logistic regression (scikit-learn, L2)",
            "standardisation": "mean and deviation of the training part",
            "selection": "macro-F1 on the validation part; test is read once per split",
            "random_floor": "scores averaged over fresh backbones, split by split; batch-norm "
            "statistics, where there are any, recomputed on the task's unlabelled inputs",
            "shuffled_floor": "labels permuted within training and within validation",
            "tfidf_floor": "character n-grams 1-4, fitted on the training part",
            "late": "even vote of the single modalities' probes with their class probabilities, "
            "over the modalities that a sample has; given where two modalities or more are probed",
            "macro_f1": "over the fixed label set; a class absent from test counts as 0",
            "interval": "95 % t interval over splits; variance times 1/J + n_test/n_learn "
            "(Nadeau and Bengio 2003), because splits overlap; n_learn is training plus "
            "validation",
        }
    )


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
        "samples_per_class": {
            name: int((samples.labels == place).sum())
            for place, name in enumerate(task.card.classes)
        },
    }


def _matching_report(
    path: Path, checkpoint: Checkpoint, task: Task, protocol: dict[str, Any]
) -> ProbeReport | None:
    """The report that is there already, if it answers the same question.

    One of before validation scores were kept does not: the best checkpoint is chosen by them.
    """
    try:
        record = read_json(path)
        report = report_from_json(record)
        same = (
            record["checkpoint"] == describe_checkpoint(checkpoint)
            and record["task"] == _plain(task.card.to_json())
            and record["shards"]["digest"] == task.shards.digest
            and record["protocol"] == protocol
        )
        return report if same and validation_score(report) is not None else None
    except (ValueError, KeyError, TypeError):
        return None  # absent or unreadable: it is made again and replaced


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
    return extract_features(backbones, task, config.batch_size, config.representations)


def _probe_subsets(
    task: Task, samples: TaskSamples, features: Mapping[str, Features], config: ProbeConfig
) -> dict[str, SubsetReport]:
    """Reports of the representations that a sample can give, and of their late fusion."""
    splits = task_splits(samples, config.splits)
    used = {name: usable(name, task, samples, config.rows) for name in config.representations}
    used = {name: mask for name, mask in used.items() if mask.any()}

    def problems(name: str, mask: np.ndarray) -> list[SplitProblem]:
        return split_problems(task, samples, splits, config.linear, (name, mask))

    voting = [mask for name, mask in used.items() if name in MODALITIES]
    inputs = [
        _subset_input(name, task, samples, features, problems(name, mask))
        for name, mask in used.items()
    ]
    votes = len(voting) > 1
    late = problems("any modality", np.logical_or.reduce(voting)) if votes else []
    return probe_subsets(inputs, late, config.fit_workers) if inputs else {}


def _subset_input(
    subset: str,
    task: Task,
    samples: TaskSamples,
    features: Mapping[str, Features],
    problems: list[SplitProblem],
) -> SubsetInput:
    texts = [text or "" for text in samples.texts] if subset == "text" else None
    return SubsetInput(
        subset=subset,
        pretrained=features[PRETRAINED].by_subset[subset],
        random={
            name: made.by_subset[subset] for name, made in features.items() if name != PRETRAINED
        },
        texts=texts,
        problems=problems,
        classes=task.card.classes,
        metric=task.card.metric,
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
