"""One pass over a task's labelled samples: decoded once, checked, read by any number of readers."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from data_sharding.batch import TripleBatch
from data_sharding.manifest import ShardSet
from data_sharding.progress import track
from data_sharding.schema import MODALITIES
from data_sharding.stream.evaluation import evaluation_pass
from data_sharding.stream.order import Slice
from eval.card import CARD_FILE, Task, TaskCard
from eval.representations import readable
from eval.splits import Split, strata_of
from pretrain.models import Backbone

UNIT_KEY = "group"
"""Under ``metadata``: the video, dialogue, ... that importers keep of a sample even where the
authors' parts cut it, so that it is no group of a split."""

Reader = Callable[[TripleBatch], Mapping[str, Float32[np.ndarray, "batch _"]]]
"""Makes named features of the rows of a batch."""


@dataclass(frozen=True, kw_only=True)
class TaskSamples:
    """The labelled samples of a task, in the order of the shards; the same for every backbone."""

    ids: tuple[str, ...]
    labels: Int64[np.ndarray, "sample"] | Float64[np.ndarray, "sample"]
    """Place of each label in the card's classes; or the label itself, where it is a number."""
    groups: tuple[str, ...]
    num_testable: int
    """So many, the first ones, are split; the others are only trained on."""
    present: Bool[np.ndarray, "sample 3"]
    texts: tuple[str | None, ...]
    num_unlabelled: int
    """Samples left out because they carry no label."""
    fixed: Split | None = None
    """The authors' parts, where the card names them."""
    places: Int64[np.ndarray, "sample"] | None = None
    """Number of each sample among all samples of the task's parts, unlabelled ones counted."""

    @property
    def strata(self) -> Int64[np.ndarray, "sample"]:
        """What is shared out evenly: the class, or the fifth of the labels that a number is in."""
        return strata_of(self.labels)

    def has(self, subset: str) -> Bool[np.ndarray, "sample"]:
        """Samples that a representation can be read from."""
        return readable(subset, self.present)

    def has_all(self, modalities: Sequence[str]) -> Bool[np.ndarray, "sample"]:
        """Samples with all of these modalities."""
        columns = [MODALITIES.index(name) for name in modalities]
        return np.asarray(self.present[:, columns].all(axis=1))


def read_samples(
    decoding: Backbone, task: Task, batch_size: int, readers: Mapping[str, Reader]
) -> tuple[TaskSamples, dict[str, dict[str, Float32[np.ndarray, "sample _"]]]]:
    """Read the task once; every reader sees the same batches.

    Args:
        decoding: Its decoder and its preprocessing make the batches.
        task: What to read.
        batch_size: Samples of one batch.
        readers: By name.

    Returns:
        The samples, and by reader and feature the rows of the labelled samples.

    Raises:
        ValueError: No labelled sample, an unknown label, a sample without its group, or an id in
            two groups.
    """
    rows = _Rows(task.card, task.folder / CARD_FILE)
    outputs: dict[str, dict[str, list[np.ndarray]]] = {name: {} for name in readers}
    for shards in task.parts:
        for batch in task_batches(decoding, shards, batch_size):
            labelled = rows.take(batch)
            for name, read in readers.items():
                for feature, values in read(batch).items():
                    outputs[name].setdefault(feature, []).append(values[labelled])
        rows.end_part()
    samples = rows.finish()
    return samples, {
        name: {feature: np.concatenate(parts) for feature, parts in made.items()}
        for name, made in outputs.items()
    }


def task_batches(backbone: Backbone, shards: ShardSet, batch_size: int) -> Iterator[TripleBatch]:
    """Preprocessed batches of a part of a task, in order, with a progress bar on a terminal."""
    part = Slice(global_batch=batch_size)
    batches = evaluation_pass(shards, backbone.decoder(), backbone.preprocess(), part)
    total = -(-shards.num_samples // batch_size)
    for batch in track(batches, "features, batches", total):
        yield batch.slice(0, int(batch.valid.sum()))  # what fills the last batch comes last


def group_of(
    record: Mapping[str, object], sample_id: str, group_key: str | None, where: str
) -> str:
    """Group of a sample by its JSON; without a key every sample is its own.

    Raises:
        ValueError: The sample has no such group.
    """
    if group_key is None:
        return sample_id
    metadata = record.get("metadata")
    group = metadata.get(group_key) if isinstance(metadata, Mapping) else None
    if group is None or group == "":
        raise ValueError(f"{where}: sample {sample_id!r} lacks metadata.{group_key}, its group")
    return str(group)


def _unit_of(record: Mapping[str, object], sample_id: str) -> str:
    """What a sample is resampled with where no group is kept whole; alone if none is told."""
    metadata = record.get("metadata")
    unit = metadata.get(UNIT_KEY) if isinstance(metadata, Mapping) else None
    return sample_id if unit is None or unit == "" else str(unit)


class _Rows:
    """Collects what is known of each labelled sample, and checks it."""

    def __init__(self, card: TaskCard, card_file: Path) -> None:
        self.card = card
        self.card_file = card_file
        self.place = {name: index for index, name in enumerate(card.classes)}
        self.ids: list[str] = []
        self.labels: list[float] = []
        self.groups: list[str] = []
        self.units: list[str] = []
        self.texts: list[str | None] = []
        self.present: list[np.ndarray] = []
        self.num_unlabelled = 0
        self.places: list[int] = []
        self.num_seen = 0
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
            self.places.append(self.num_seen + row)
            kept.append(row)
        self.num_seen += len(batch)
        self.present.append(batch.present.cpu().numpy()[kept])
        return np.array(kept, dtype=np.int64)

    def end_part(self) -> None:
        """Note that what follows is another part of the task."""
        self.ends.append(len(self.labels))

    def _append(self, sample_id: str, label: str, record: Mapping[str, object]) -> None:
        self.ids.append(sample_id)
        self.labels.append(self._value(sample_id, label))
        self.groups.append(
            group_of(record, sample_id, self.card.group_key, f"task {self.card.name}")
        )
        self.units.append(_unit_of(record, sample_id))

    def _value(self, sample_id: str, label: str) -> float:
        """Place of the class, or the number.

        Raises:
            ValueError: None of the classes, or no number within the range (NaN is none).
        """
        where = f"task {self.card.name}: sample {sample_id!r} has the label {label!r}, which is"
        if self.card.label_range is None:
            if label not in self.place:
                raise ValueError(
                    f"{where} none of {', '.join(self.card.classes)}; add it to classes in "
                    f"{self.card_file}, or take the samples out"
                )
            return float(self.place[label])
        low, high = self.card.label_range
        try:
            value = float(label)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(
                f"{where} no number within {self.card.label_range}; widen label_range in "
                f"{self.card_file}, or take the samples out"
            )
        return value

    def _fixed(self) -> Split | None:
        if self.card.fixed_parts is None:
            return None
        bounds = zip([0, *self.ends], self.ends, strict=False)
        train, validation, test = (np.arange(*bound, dtype=np.int64) for bound in bounds)
        cut = self.card.group_key is None
        units = tuple(self.units[row] for row in test) if cut else None
        return Split(train=train, validation=validation, test=test, test_units=units)

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
            labels=np.array(self.labels, dtype=np.float64 if self.card.is_regression else np.int64),
            groups=tuple(self.groups),
            num_testable=len(self.labels) if self.card.fixed_parts else self.ends[0],
            fixed=self._fixed(),
            places=np.array(self.places, dtype=np.int64),
            present=np.concatenate(self.present),
            texts=tuple(self.texts),
            num_unlabelled=self.num_unlabelled,
        )
