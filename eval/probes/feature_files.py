"""A backbone's features of a task on disk: made once, found again by the hash of its weights.

One safetensors file a backbone and task: the features by representation, and what is known of the
samples. The file's key holds all that features depend on, so that another question of the same
checkpoint (other splits, grids or probes) costs no second pass over the task, and the random floor
of a run is encoded once for all its checkpoints. Any file may be deleted at any time.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data_sharding.durable import write_durably
from eval.card import Task
from eval.samples import TaskSamples
from eval.splits import Split

logger = logging.getLogger(__name__)

FORMAT = 1
SAMPLES, FEATURES = "samples", "features/"


@dataclass(frozen=True, kw_only=True)
class FeatureKey:
    """All that features depend on."""

    weights: str
    """`eval.probes.features.parameters_digest`, before batch norms are given statistics."""
    preprocessing: str
    """`eval.probes.features.preprocessing_digest`."""
    shards: tuple[str, ...]
    """Digest of each part of the task."""
    card: str
    """sha256 of the task's card: which samples are labelled, and how."""
    batch_norms: str
    """`own`, or what their statistics were made of."""
    device: str
    torch: str

    @property
    def digest(self) -> str:
        """sha256 over the fields."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """What a file holds."""

    samples: TaskSamples
    by_subset: Mapping[str, Float32[np.ndarray, "sample _"]]
    parameters_sha256: str
    """Of the weights that made the features, statistics of batch norms among them."""


def feature_key(
    weights: str, preprocessing: str, task: Task, batch_norms: str, device: torch.device
) -> FeatureKey:
    """The key of a backbone's features of a task."""
    card = json.dumps(task.card.to_json(), sort_keys=True)
    return FeatureKey(
        weights=weights,
        preprocessing=preprocessing,
        shards=tuple(shards.digest for shards in task.parts),
        card=hashlib.sha256(card.encode()).hexdigest(),
        batch_norms=batch_norms,
        device=device.type,
        torch=torch.__version__,
    )


def feature_file(folder: Path, task: Task, key: FeatureKey) -> Path:
    """Where the features with this key lie."""
    return folder / f"{task.name}-{key.digest[:16]}.safetensors"


def load_features(path: Path, key: FeatureKey, names: Sequence[str]) -> StoredFeatures | None:
    """The stored features of these representations; None: they have to be made.

    A file that is torn or was changed is told of and not used.
    """
    if not path.is_file():
        return None
    try:
        stored = _read(path, key)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be used (%s): its features are made anew", path, error)
        return None
    return stored if set(names) <= set(stored.by_subset) else None


def store_features(path: Path, key: FeatureKey, made: StoredFeatures) -> None:
    """Write a file whole, with the other representations of one that is there.

    Where it cannot be written a line says so: it saves time and nothing rests on it.
    """
    before = load_features(path, key, ())
    by_subset = {**(before.by_subset if before else {}), **made.by_subset}
    told = json.dumps(asdict(made.samples), default=np.ndarray.tolist)  # numbers stay bit-equal
    tensors = {FEATURES + name: np.ascontiguousarray(by_subset[name]) for name in by_subset}
    tensors[SAMPLES] = np.frombuffer(told.encode(), dtype=np.uint8)
    metadata = {
        "format": str(FORMAT),
        "key": key.digest,
        "parameters_sha256": made.parameters_sha256,
        "sha256": _sha256(tensors),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, save(tensors, metadata=metadata))
    except OSError as error:
        logger.warning("features were not kept for another probe: %s", error)


def _read(path: Path, key: FeatureKey) -> StoredFeatures:
    with safe_open(path, framework="numpy") as file:
        told = file.metadata() or {}
        if told.get("format") != str(FORMAT) or told.get("key") != key.digest:
            raise ValueError("of another format or question")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if told["sha256"] != _sha256(tensors):
        raise ValueError("its checksum does not fit")
    return StoredFeatures(
        samples=_samples(json.loads(tensors[SAMPLES].tobytes())),
        by_subset={
            name.removeprefix(FEATURES): values
            for name, values in tensors.items()
            if name.startswith(FEATURES)
        },
        parameters_sha256=told["parameters_sha256"],
    )


def _sha256(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name}:{values.dtype}:{values.shape}".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _samples(record: Mapping[str, Any]) -> TaskSamples:
    fixed, labels = record["fixed"], record["labels"]
    whole = all(isinstance(label, int) for label in labels)
    return TaskSamples(
        ids=tuple(record["ids"]),
        labels=np.array(labels, dtype=np.int64 if whole else np.float64),
        groups=tuple(record["groups"]),
        num_testable=record["num_testable"],
        present=np.array(record["present"], dtype=bool),
        texts=tuple(record["texts"]),
        num_unlabelled=record["num_unlabelled"],
        fixed=None if fixed is None else _split(fixed),
        places=np.array(record["places"], dtype=np.int64),
    )


def _split(record: Mapping[str, Any]) -> Split:
    rows = {
        name: np.array(record[name], dtype=np.int64) for name in ("train", "validation", "test")
    }
    units = record["test_units"]
    return Split(**rows, test_units=None if units is None else tuple(units))
