"""Features of a checkpoint and of fresh backbones: from the run's files, else by one pass."""

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from eval.card import Task
from eval.probes.feature_files import (
    FeatureKey,
    feature_key,
    load_features,
    load_samples,
    store_features,
    store_samples,
)
from eval.probes.features import Features, extract_features, recompute_batch_norm
from eval.probes.other_probes import ATTENTIVE_SEEDS
from eval.probes.probe_config import ProbeConfig
from eval.probes.subset_report import PRETRAINED
from eval.samples import TaskSamples
from pretrain.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from pretrain.models import Backbone

logger = logging.getLogger(__name__)

FEATURES_FOLDER = "features"


def checkpoint_features(
    checkpoint: Checkpoint, task: Task, config: ProbeConfig
) -> tuple[TaskSamples, dict[str, Features]]:
    """Features of the checkpoint's backbone and of fresh ones, keyed by name or seed.

    They are kept in ``run/features``, so that another question reads no shard. The attentive
    probe's tokens are too many to keep: its backbones are read anew.

    Raises:
        ValueError: See `eval.probes.features.extract_features`.
        CheckpointError: The checkpoint changed since it was opened.
    """
    _refuse_changed(checkpoint)
    if not config.keep_features:
        return _make(_wanted(checkpoint, task, config), task, config)
    _forget_gone(checkpoint.run)
    wanted = _wanted(checkpoint, task, config)
    of_samples = wanted[PRETRAINED].key.of_samples
    file = of_samples.file(checkpoint.run / FEATURES_FOLDER / "samples", task)
    samples = load_samples(file, of_samples)
    known = {} if samples is None else _known(wanted, config)
    missing = {name: one for name, one in wanted.items() if name not in known}
    if samples is not None and not missing:
        logger.info("%s: features of %s are read from files", task.name, checkpoint.folder.name)
        return samples, known
    samples, made = _make(missing, task, config)
    for features in known.values():
        assert all(len(rows) == len(samples.ids) for rows in features.by_subset.values())
    store_samples(file, of_samples, samples)
    for name, features in made.items():
        store_features(missing[name].file, missing[name].key, features)
    return samples, {name: made.get(name) or known[name] for name in wanted}


def device_of(name: str) -> torch.device:
    """The device that a configuration names; `auto` takes a GPU when there is one.

    Raises:
        ValueError: A GPU is named, and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("probe.device is cuda, but torch sees no GPU here; use cpu or auto")
    return torch.device(name)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    make: Callable[[], Backbone]
    key: FeatureKey
    file: Path


def _wanted(checkpoint: Checkpoint, task: Task, config: ProbeConfig) -> dict[str, _Wanted]:
    root, device = checkpoint.run / FEATURES_FOLDER, device_of(config.device).type
    own = feature_key(checkpoint.backbone, task, None, device)
    wanted = {
        PRETRAINED: _Wanted(
            make=partial(Backbone.load, checkpoint.backbone),
            key=own,
            file=own.file(root / checkpoint.folder.name, task),
        )
    }
    for seed in range(config.num_random_backbones):
        drawn = f"seed {seed}, batch norms of {config.batch_size} samples of the task at a time"
        key = feature_key(checkpoint.backbone, task, drawn, device)
        wanted[str(seed)] = _Wanted(
            make=partial(Backbone.random_like, checkpoint.backbone, seed),
            key=key,
            file=key.file(root / f"random-{seed}", task),
        )
    return wanted


def _known(wanted: Mapping[str, _Wanted], config: ProbeConfig) -> dict[str, Features]:
    found = {
        name: load_features(one.file, one.key, config.representations)
        for name, one in wanted.items()
        if name not in _tokens_of(config)
    }
    return {name: features for name, features in found.items() if features is not None}


def _make(
    wanted: Mapping[str, _Wanted], task: Task, config: ProbeConfig
) -> tuple[TaskSamples, dict[str, Features]]:
    device = device_of(config.device)
    backbones = {name: one.make().to(device) for name, one in wanted.items()}
    fresh = [backbone for name, backbone in backbones.items() if name != PRETRAINED]
    recompute_batch_norm(fresh, task, config.batch_size)
    tokens_of = [name for name in _tokens_of(config) if name in backbones]
    return extract_features(backbones, task, config.batch_size, config.representations, tokens_of)


def _tokens_of(config: ProbeConfig) -> tuple[str, ...]:
    return (PRETRAINED, *ATTENTIVE_SEEDS) if "attentive" in config.also else ()


def _refuse_changed(checkpoint: Checkpoint) -> None:
    found = open_checkpoint(checkpoint.folder).digest
    if found != checkpoint.digest:
        raise CheckpointError(
            f"{checkpoint.folder}: replaced since it was opened (digest {found[:12]}, expected "
            f"{checkpoint.digest[:12]}); probe it again by name"
        )


def _forget_gone(run: Path) -> None:
    """Features of checkpoints that the run has deleted."""
    for folder in (run / FEATURES_FOLDER).glob("step-*"):
        if not (run / "checkpoints" / folder.name).exists():
            shutil.rmtree(folder, ignore_errors=True)
