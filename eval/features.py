"""One pass of frozen backbones over a task's samples.

The samples are decoded once and every backbone reads the same batches, so a random-initialised
floor costs a forward pass and no second read of the shards.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import nn

from data_sharding.batch import TripleBatch
from data_sharding.manifest import ShardSet
from data_sharding.progress import track
from data_sharding.schema import MODALITIES
from data_sharding.stream.evaluation import evaluation_pass
from data_sharding.stream.order import Slice
from eval.card import Task, TaskCard
from pretrain.models import Backbone

SUBSETS: tuple[str, ...] = (*MODALITIES, "fused")
"""Representations that are probed; ``fused`` reads whatever modalities a sample has."""


@dataclass(frozen=True, kw_only=True)
class TaskSamples:
    """The labelled samples of a task, in the order of the shards; the same for every backbone."""

    ids: tuple[str, ...]
    labels: Int64[np.ndarray, "sample"]
    """Place of each label in the card's classes."""
    groups: tuple[str, ...]
    num_testable: int
    """So many, the first ones, are split; the others are only trained on."""
    present: Bool[np.ndarray, "sample 3"]
    texts: tuple[str | None, ...]
    num_unlabelled: int
    """Samples left out because they carry no label."""

    def has(self, subset: str) -> Bool[np.ndarray, "sample"]:
        """Samples that a subset can be read from: the modality is there, or for fused any is."""
        if subset == "fused":
            return np.asarray(self.present.any(axis=1))
        return self.present[:, MODALITIES.index(subset)]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What one frozen backbone makes of the samples."""

    by_subset: Mapping[str, Float32[np.ndarray, "sample dim"]]
    """Rows as in `TaskSamples`; rows of a missing modality mean nothing."""
    parameters_sha256: str
    """Digest of parameters and buffers, the same before and after the pass."""


def extract_features(
    backbones: Mapping[str, Backbone], task: Task, batch_size: int = 64
) -> tuple[TaskSamples, dict[str, Features]]:
    """Read the task once and encode every labelled sample with every backbone.

    All backbones must share one preprocessing (those of `Backbone.random_like` do).

    Raises:
        ValueError: No labelled sample, an unknown label, a sample without its group, an id in two
            groups, or features that are not finite.
    """
    models = list(backbones.values())
    digests = {name: parameters_digest(model) for name, model in backbones.items()}
    rows = _Rows(task.card)
    outputs: dict[str, dict[str, list[np.ndarray]]] = {
        name: {subset: [] for subset in SUBSETS} for name in backbones
    }
    for shards in task.parts:
        for batch in task_batches(models[0], shards, batch_size):
            labelled = rows.take(batch)
            for name, model in backbones.items():
                for subset, values in _encode(model.eval(), batch).items():
                    outputs[name][subset].append(values[labelled])
        rows.end_part()
    samples = rows.finish()
    features: dict[str, Features] = {}
    for name, model in backbones.items():
        if parameters_digest(model) != digests[name]:
            raise AssertionError(f"backbone {name} changed while features were read")
        by_subset = {subset: np.concatenate(parts) for subset, parts in outputs[name].items()}
        _refuse_non_finite(by_subset, samples, name)
        features[name] = Features(by_subset=by_subset, parameters_sha256=digests[name])
    return samples, features


def task_batches(backbone: Backbone, shards: ShardSet, batch_size: int) -> Iterator[TripleBatch]:
    """Preprocessed batches of a part of a task, in order, with a progress bar on a terminal."""
    part = Slice(global_batch=batch_size)
    batches = evaluation_pass(shards, backbone.decoder(), backbone.preprocess(), part)
    total = -(-shards.num_samples // batch_size)
    for batch in track(batches, "features, batches", total):
        yield batch.slice(0, int(batch.valid.sum()))  # what fills the last batch comes last


def recompute_batch_norm(backbones: Sequence[Backbone], task: Task, batch_size: int = 64) -> None:
    """Give fresh backbones batch-norm statistics of the task's inputs, labels unread.

    A fresh network's running statistics are 0 and 1, which cripples it and would flatter
    whatever is compared with it. Networks without such statistics are left alone and cost nothing.
    """
    norms = [_running_norms(backbone) for backbone in backbones]
    if not any(norms):
        return
    for norm in (norm for found in norms for norm in found):
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over batches
        norm.train()
    for batch in task_batches(backbones[0], task.shards, batch_size):
        if len(batch) > 1:  # statistics of one row are none
            for backbone in backbones:
                backbone.encode(batch)
    for backbone in backbones:
        backbone.eval()


def parameters_digest(model: nn.Module) -> str:
    """sha256 over names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class _Rows:
    """Collects what is known of each labelled sample, and checks it."""

    def __init__(self, card: TaskCard) -> None:
        self.card = card
        self.place = {name: index for index, name in enumerate(card.classes)}
        self.ids: list[str] = []
        self.labels: list[int] = []
        self.groups: list[str] = []
        self.texts: list[str | None] = []
        self.present: list[np.ndarray] = []
        self.num_unlabelled = 0
        self.ends: list[int] = []

    def take(self, batch: TripleBatch) -> Int64[np.ndarray, "labelled"]:
        """Note the batch's labelled samples; returns their rows in the batch."""
        kept: list[int] = []
        for row, record in enumerate(batch.metadata):
            label = record.get("labels", {}).get(self.card.label_key)
            if label is None or label == "":
                self.num_unlabelled += 1
                continue
            self._append(str(record.get("id", batch.keys[row])), str(label), record)
            self.texts.append(batch.texts[row])
            kept.append(row)
        self.present.append(batch.present.cpu().numpy()[kept])
        return np.array(kept, dtype=np.int64)

    def end_part(self) -> None:
        """Note that what follows is another part of the task."""
        self.ends.append(len(self.labels))

    def _append(self, sample_id: str, label: str, record: Mapping[str, object]) -> None:
        if label not in self.place:
            raise ValueError(
                f"task {self.card.name}: sample {sample_id!r} has the label {label!r}, which is "
                f"none of {self.card.classes}"
            )
        self.ids.append(sample_id)
        self.labels.append(self.place[label])
        self.groups.append(self._group_of(sample_id, record))

    def _group_of(self, sample_id: str, record: Mapping[str, object]) -> str:
        if self.card.group_key is None:
            return sample_id
        metadata = record.get("metadata")
        group = metadata.get(self.card.group_key) if isinstance(metadata, Mapping) else None
        if group is None or group == "":
            raise ValueError(
                f"task {self.card.name}: sample {sample_id!r} lacks metadata."
                f"{self.card.group_key}, its group"
            )
        return str(group)

    def finish(self) -> TaskSamples:
        """All samples, checked: some are labelled, and no id lies in two groups."""
        if not self.labels:
            raise ValueError(
                f"task {self.card.name}: no sample carries labels.{self.card.label_key}"
            )
        pairs = Counter(sample_id for sample_id, _ in set(zip(self.ids, self.groups, strict=True)))
        torn = sorted(sample_id for sample_id, count in pairs.items() if count > 1)
        if torn:
            raise ValueError(
                f"task {self.card.name}: {len(torn)} ids lie in more than one group, so one sample "
                f"could be trained on and tested: {torn[:5]}"
            )
        return TaskSamples(
            ids=tuple(self.ids),
            labels=np.array(self.labels, dtype=np.int64),
            groups=tuple(self.groups),
            num_testable=self.ends[0],
            present=np.concatenate(self.present),
            texts=tuple(self.texts),
            num_unlabelled=self.num_unlabelled,
        )


def _encode(backbone: Backbone, batch: TripleBatch) -> dict[str, Float32[np.ndarray, "batch _"]]:
    embeddings = backbone.encode(batch)
    return {
        subset: getattr(embeddings, subset).detach().float().cpu().numpy() for subset in SUBSETS
    }


def _refuse_non_finite(
    by_subset: Mapping[str, np.ndarray], samples: TaskSamples, name: str
) -> None:
    for subset, values in by_subset.items():
        bad = ~np.isfinite(values[samples.has(subset)]).all(axis=1)
        if bad.any():
            raise ValueError(
                f"{name} backbone: {int(bad.sum())} {subset} features are not finite; "
                "the checkpoint is unfit to probe"
            )


def _running_norms(backbone: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [
        module
        for module in backbone.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
