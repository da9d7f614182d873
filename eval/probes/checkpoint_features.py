"""Features of a checkpoint and of fresh backbones: from the run's files, else by one pass."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from eval.card import Task
from eval.probes.feature_files import (
    FeatureKey,
    StoredFeatures,
    feature_file,
    feature_key,
    load_features,
    store_features,
)
from eval.probes.features import (
    Features,
    extract_features,
    parameters_digest,
    preprocessing_digest,
    recompute_batch_norm,
)
from eval.probes.other_probes import ATTENTIVE_SEEDS
from eval.probes.probe_config import ProbeConfig
from eval.probes.subset_report import PRETRAINED
from eval.samples import TaskSamples
from pretrain.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from pretrain.models import Backbone

logger = logging.getLogger(__name__)

FEATURES_FOLDER, RANDOM_FOLDER = "features", "random"


def checkpoint_features(
    checkpoint: Checkpoint, task: Task, config: ProbeConfig
) -> tuple[TaskSamples, dict[str, Features]]:
    """Features of the checkpoint's backbone and of fresh ones, keyed by name or seed.

    They are kept in ``run/features``, by checkpoint while there is one, so that another question
    reads no shard. The attentive probe's tokens are too many to keep: it takes a pass of its own.

    Raises:
        ValueError: See `eval.probes.features.extract_features`.
        CheckpointError: The checkpoint changed since it was opened.
    """
    _refuse_changed(checkpoint)
    _forget_gone(checkpoint.run)
    tokens = config.also if "attentive" in config.also else ()
    wanted = _wanted(checkpoint, task, config)
    known = {} if tokens else _known(wanted, config)
    missing = {name: one for name, one in wanted.items() if name not in known}
    if not missing:
        logger.info("%s: features of %s are read from files", task.name, checkpoint.folder.name)
        return known[PRETRAINED].samples, {name: _features(known[name]) for name in wanted}
    fresh = [one.backbone for name, one in missing.items() if name != PRETRAINED]
    recompute_batch_norm(fresh, task, config.batch_size)
    samples, made = extract_features(
        {name: one.backbone for name, one in missing.items()},
        task,
        config.batch_size,
        config.representations,
        (PRETRAINED, *ATTENTIVE_SEEDS) if tokens else (),
    )
    for name, one in missing.items():
        digest = made[name].parameters_sha256
        kept = StoredFeatures(
            samples=samples, by_subset=made[name].by_subset, parameters_sha256=digest
        )
        store_features(one.file, one.key, kept)
    return samples, {
        name: made[name] if name in made else _features(known[name]) for name in wanted
    }


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
    backbone: Backbone
    key: FeatureKey
    file: Path


def _wanted(checkpoint: Checkpoint, task: Task, config: ProbeConfig) -> dict[str, _Wanted]:
    device, root = device_of(config.device), checkpoint.run / FEATURES_FOLDER
    drawn = f"of the task, {config.batch_size} samples a batch"
    wanted: dict[str, _Wanted] = {}

    def add(name: str, backbone: Backbone, batch_norms: str, folder: Path) -> None:
        weights, inputs = parameters_digest(backbone), preprocessing_digest(backbone)
        key = feature_key(weights, inputs, task, batch_norms, device)
        file = feature_file(folder, task, key)
        wanted[name] = _Wanted(backbone=backbone.to(device), key=key, file=file)

    add(PRETRAINED, Backbone.load(checkpoint.backbone), "own", root / checkpoint.folder.name)
    for seed in range(config.num_random_backbones):
        fresh = Backbone.random_like(checkpoint.backbone, seed)
        add(str(seed), fresh, drawn, root / RANDOM_FOLDER)
    return wanted


def _known(wanted: Mapping[str, _Wanted], config: ProbeConfig) -> dict[str, StoredFeatures]:
    found = {
        name: load_features(one.file, one.key, config.representations)
        for name, one in wanted.items()
    }
    return {name: stored for name, stored in found.items() if stored is not None}


def _features(stored: StoredFeatures) -> Features:
    return Features(by_subset=stored.by_subset, parameters_sha256=stored.parameters_sha256)


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
