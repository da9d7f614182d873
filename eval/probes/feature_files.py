"""A backbone's features of a task on disk: made once, found again by what made them.

Safetensors files under ``run/features``, whose keys hold all that features depend on. Another
question of the same checkpoint (other splits, grids or probes) then costs no second pass over the
task, and the random floor of a run is encoded once for all its checkpoints. Any file may be deleted
at any time.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data_sharding.durable import write_durably
from eval.card import Task
from eval.probes.features import Features
from eval.samples import TaskSamples
from eval.splits import Split

logger = logging.getLogger(__name__)

FORMAT = "1"
LIBRARIES = (
    "numpy",
    "pillow",
    "soundfile",
    "tokenizers",
    "torch",
    "torchaudio",
    "torchvision",
    "transformers",
)
"""Whose versions a key names: what reads, resamples and encodes."""
PACKAGES = ("data_sharding", "pretrain", "eval")
"""Whose sources a key names: a mended encoder makes other features of the same weights."""
WEIGHTS, SAMPLES = "model.safetensors", "samples"


@dataclass(frozen=True, kw_only=True)
class FeatureKey:
    """All that features depend on."""

    weights: str
    """sha256 of the file, or the seed that they are drawn with and what batch norms are given."""
    architecture: str
    """sha256 over the backbone's other files: configuration, statistics, vocabulary."""
    shards: tuple[str, ...]
    """Digest of each part of the task."""
    card: str
    """sha256 of the task's card: which samples are labelled, and how."""
    device: str
    made_by: str
    """sha256 over sources and versions."""

    @property
    def digest(self) -> str:
        """sha256 over the fields."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    @property
    def of_samples(self) -> "FeatureKey":
        """The key of what is known of the samples, which no weights change."""
        return replace(self, weights="")

    def file(self, folder: Path, task: Task) -> Path:
        """Where the features, or the samples, with this key lie."""
        return folder / task.name / f"{self.digest[:16]}.safetensors"


def feature_key(backbone: Path, task: Task, weights: str | None, device: str) -> FeatureKey:
    """The key of a backbone's features of a task.

    Args:
        backbone: Folder that `Backbone.load` and `Backbone.random_like` read.
        task: What is read.
        weights: How fresh ones are drawn; None: those in the folder.
        device: ``cpu`` or ``cuda``.
    """
    others = sorted(path for path in backbone.iterdir() if path.name != WEIGHTS)
    card = json.dumps(task.card.to_json(), sort_keys=True).encode()
    return FeatureKey(
        weights=weights or _sha256_of(backbone / WEIGHTS),
        architecture=_sha256(" ".join(f"{one.name} {_sha256_of(one)}" for one in others).encode()),
        shards=tuple(shards.digest for shards in task.parts),
        card=_sha256(card),
        device=device,
        made_by=_made_by(),
    )


def load_features(path: Path, key: FeatureKey, names: Sequence[str]) -> Features | None:
    """The stored features of these representations; None: they have to be made."""
    found = _load(path, key)
    if found is None or not set(names) <= set(found[0]):
        return None
    return Features(by_subset=found[0], parameters_sha256=found[1]["parameters_sha256"])


def store_features(path: Path, key: FeatureKey, made: Features) -> None:
    """Write features, beside the other representations of the same key."""
    before = _load(path, key)
    _store(
        path,
        key,
        {**(before[0] if before else {}), **made.by_subset},
        {"parameters_sha256": made.parameters_sha256},
    )


def load_samples(path: Path, key: FeatureKey) -> TaskSamples | None:
    """What is known of the samples; None: the shards have to be read."""
    found = _load(path, key)
    return None if found is None else _samples(json.loads(found[0][SAMPLES].tobytes()))


def store_samples(path: Path, key: FeatureKey, samples: TaskSamples) -> None:
    """Write what is known of the samples: ids, labels, groups, words. Numbers stay bit-equal."""
    told = json.dumps(asdict(samples), default=np.ndarray.tolist).encode()
    _store(path, key, {SAMPLES: np.frombuffer(told, dtype=np.uint8)}, {})


def _load(path: Path, key: FeatureKey) -> tuple[dict[str, np.ndarray], dict[str, str]] | None:
    """A file's tensors and what it tells; one that is torn or was changed is told of, not used."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if told.get("format") != FORMAT or told.get("key") != key.digest:
            raise ValueError("of another format or key")
        if told.get("sha256") != _sha256_of_tensors(tensors):
            raise ValueError("its checksum does not fit")
    except (SafetensorError, OSError, ValueError) as error:
        logger.warning("%s cannot be used (%s): it is made anew", path, error)
        return None
    return tensors, told


def _store(
    path: Path, key: FeatureKey, tensors: Mapping[str, np.ndarray], told: Mapping[str, str]
) -> None:
    """Write a file whole, in place of those with other keys.

    Where it cannot be written a line says so: it saves time and nothing rests on it.
    """
    whole = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    head = {"format": FORMAT, "key": key.digest, "sha256": _sha256_of_tensors(whole), **told}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, save(whole, metadata=head))
        for other in path.parent.glob("*.safetensors"):
            if other != path:
                other.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("not kept for another probe: %s", error)


@cache
def _made_by() -> str:
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)} {_sha256_of(path)} ".encode())
    digest.update(json.dumps({name: version(name) for name in LIBRARIES}).encode())
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name}:{values.dtype}:{values.shape}".encode())
        digest.update(values.data)
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
    units = record["test_units"]
    return Split(
        train=np.array(record["train"], dtype=np.int64),
        validation=np.array(record["validation"], dtype=np.int64),
        test=np.array(record["test"], dtype=np.int64),
        test_units=None if units is None else tuple(units),
    )
