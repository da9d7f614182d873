"""A head: a linear classifier on the fused features of one backbone, which travels with it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.special import softmax

from data_sharding.schema import MODALITIES
from eval.card import Task, publish_folder
from eval.metrics import score
from eval.probes.contents import Copies, honest_splits
from eval.probes.features import extract_features, parameters_digest
from eval.probes.linear_probe import LinearProbeConfig, fit_probe
from eval.records import Json, read_json, write_json
from eval.release.release_checks import received_files, verify_checksums, write_checksums
from eval.splits import SplitConfig
from pretrain.disk_room import room_named
from pretrain.models import Backbone

HEAD_FORMAT = 2
"""Format 1 had no sums."""
HEAD_FILE = "head.json"
WEIGHTS_FILE = "head.safetensors"
BACKBONE_FOLDER = "backbone"
FEATURES = "fused"
"""The fusion of whatever a sample has."""
ONE_SPLIT = SplitConfig(num_splits=1, num_seeds=1, train_share=1.0)
"""The first random one; where the set's authors fixed the parts, the whole of these."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Standardisation and classifier, and the backbone that they were fitted to."""

    backbone: Backbone
    classes: tuple[str, ...]
    mean: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    weight: Float[np.ndarray, "class dim"]
    bias: Float[np.ndarray, " class"]
    learned: tuple[str, ...] | None = None
    """Modalities that some training sample had; None: an older head, which does not tell."""

    def probabilities(self, fused: Float[np.ndarray, "row dim"]) -> Float[np.ndarray, "row class"]:
        """Softmax of the classifier's logits."""
        return np.asarray(softmax((fused - self.mean) / self.scale @ self.weight.T + self.bias, 1))


def fit_head(
    backbone: Path,
    task: Task,
    out: Path,
    linear: LinearProbeConfig,
    copies: Copies = "refuse",
) -> float:
    """Fit a head to one split of the task and keep it with its backbone.

    The split is the first random one or, where the set's authors fixed the parts, theirs, of which
    it is fitted to the whole training part.

    As the linear probe does, it is fitted and standardised on the training part, and its
    regularisation chosen on validation; test is read once, for the number that is returned.

    Args:
        backbone: What `Backbone.load` reads.
        task: Of classes.
        out: Folder to create: classifier, description, backbone, sums.
        linear: The grid.
        copies: What becomes of samples whose content a later part of the split repeats.

    Returns:
        Macro-F1 on the test part of that one split.

    Raises:
        ValueError: ``out`` is not empty, the task has no classes or cannot be split, or copies lie
            on two sides of the split and are not to be dropped.
    """
    if not task.card.classes:
        raise ValueError(f"task {task.name}: its label is a number; a head needs classes")
    model = Backbone.load(backbone)
    samples, features = extract_features({"head": model}, task, names=(FEATURES,))
    rows = features["head"].by_subset[FEATURES]
    splits, _ = honest_splits(task, samples, ONE_SPLIT, copies)
    split = splits[0].restricted_to(samples.has(FEATURES))
    taught, chosen, test = (
        (rows[part], samples.labels[part]) for part in (split.train, split.validation, split.test)
    )
    fitted = fit_probe(taught, chosen, len(task.card.classes), linear)
    tested = score(test[1], fitted.predict(test[0]), len(task.card.classes)).macro_f1
    head = Head(
        backbone=model,
        classes=task.card.classes,
        mean=np.array(fitted.scaler.mean_),
        scale=np.array(fitted.scaler.scale_),
        weight=fitted.weight,
        bias=fitted.bias,
        learned=had_by_any(samples.present[split.train]),
    )
    record = {
        "task": task.name,
        "task_digest": task.shards.digest,
        "task_licence": task.card.licence,
        "split": "random" if samples.fixed is None else "the authors' parts",
        "inverse_regularisation": fitted.inverse_regularisation,
        "validation_macro_f1": fitted.validation_macro_f1,
        "test_macro_f1": tested,
    }
    keep_head(out, head, record)
    return tested


def had_by_any(present: Bool[np.ndarray, "sample 3"]) -> tuple[str, ...]:
    """Modalities that at least one of the samples has, in the canonical order."""
    return tuple(name for place, name in enumerate(MODALITIES) if present[:, place].any())


def keep_head(out: Path, head: Head, made: Json) -> None:
    """Write a head's folder: it appears whole or not at all.

    Args:
        out: Folder to create.
        head: Classifier and backbone.
        made: What ``head.json`` tells beside them: of what they were made, and their scores.

    Raises:
        ValueError: ``out`` exists and is not empty.
        NoRoomError: The disk is full.
    """
    record = {
        "format": HEAD_FORMAT,
        "classes": list(head.classes),
        "features": FEATURES,
        **({} if head.learned is None else {"modalities": list(head.learned)}),
        **made,
        "backbone_sha256": parameters_digest(head.backbone),
    }

    def build(folder: Path) -> None:
        head.backbone.save(folder / BACKBONE_FOLDER)
        arrays = {name: getattr(head, name) for name in ("mean", "scale", "weight", "bias")}
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        save_file(tensors, folder / WEIGHTS_FILE)
        write_json(folder / HEAD_FILE, record)
        write_checksums(folder)

    with room_named(out):
        publish_folder(out, build)


def load_head(folder: Path) -> Head:
    """What `keep_head` wrote.

    Raises:
        ValueError: It is no head, of another format, a file differs from what was written, or it
            lies beside another backbone than its own.
    """
    record = read_json(folder / HEAD_FILE)
    if record.get("format") != HEAD_FORMAT:
        raise ValueError(
            f"{folder / HEAD_FILE}: head format {record.get('format')!r}, this version reads "
            f"{HEAD_FORMAT}; fit it again with triptych fit-head"
        )
    verify_checksums(folder, received_files)
    backbone = Backbone.load(folder / BACKBONE_FOLDER)
    if parameters_digest(backbone) != record.get("backbone_sha256"):
        raise ValueError(
            f"{folder / BACKBONE_FOLDER}: is not the backbone that the head was fitted to"
        )
    learned = record.get("modalities")
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
        values = {
            name: tensors[name].double().numpy() for name in ("mean", "scale", "weight", "bias")
        }
        return Head(
            backbone=backbone,
            classes=tuple(map(str, record["classes"])),
            learned=None if learned is None else tuple(map(str, learned)),
            **values,
        )
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: no whole head ({error})") from None
