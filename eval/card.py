"""The card of a task: which labels of which shards, and how they are scored."""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from data_sharding.manifest import ShardSet
from data_sharding.schema import MODALITIES
from eval.metrics import METRICS
from eval.records import read_json, write_json
from eval.regression_metrics import (
    LOWER_IS_BETTER,
    MAY_BE_UNDEFINED,
    METRICS_OF_CUTS,
    ClassCuts,
)

CARD_FILE = "task.json"
CARD_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """What a labelled shard set is for, where it comes from, and how it is scored."""

    name: str
    label_key: str
    """Key under ``labels`` of each sample's JSON member."""
    group_key: str | None
    """Key under ``metadata``; samples of one group stay on one side of a split. None: no groups."""
    classes: tuple[str, ...] = ()
    """The label set, in its fixed order; empty where the label is a number."""
    label_range: tuple[float, float] | None = None
    """Least and greatest label of a regression task; None where the label is a class."""
    class_cuts: ClassCuts | None = None
    """How a regression task's labels are cut into classes for its accuracies."""
    modalities: tuple[str, ...]
    licence: str
    source: str
    """Where the labelled samples come from: a citation or an address."""
    split_rule: str
    """One sentence for the report: what is split, by what."""
    split: str | None = None
    """Split of the shard set that is probed; None means all of it."""
    learn_split: str | None = None
    """Another split whose samples join the training part and are never validated or tested, such
    as one that pretraining has seen."""
    fixed_parts: tuple[str, str, str] | None = None
    """The shard set's splits for training, validation and test, as the set's authors fixed them;
    None: random splits by groups."""
    metric: str = ""
    """What decides; not given: ``macro_f1``, or ``mae`` of a regression task."""
    notes: tuple[str, ...] = ()
    """What an importer dropped, decoded or mapped, with counts."""

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set("/\\\0") or self.name.startswith("."):
            raise ValueError(f"a task name must be usable as a file name, got {self.name!r}")
        if not self.modalities or not set(self.modalities) <= set(MODALITIES):
            raise ValueError(
                f"task {self.name}: modalities must be among {MODALITIES}, got {self.modalities}"
            )
        if self.fixed_parts is not None and (self.split or self.learn_split):
            raise ValueError(f"task {self.name}: fixed_parts name all that is read; drop split")
        if self.is_regression:
            self._check_range()
        elif len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(
                f"task {self.name}: needs at least two different classes, got {self.classes}"
            )
        if not self.metric:
            object.__setattr__(self, "metric", "mae" if self.is_regression else "macro_f1")
        deciding = tuple(name for name in self.metrics if name not in MAY_BE_UNDEFINED)
        if self.metric not in deciding:
            raise ValueError(f"task {self.name}: metric must be one of {deciding}")

    def _check_range(self) -> None:
        assert self.label_range is not None
        low, high = self.label_range
        if self.classes or self.class_cuts is None:
            raise ValueError(
                f"task {self.name}: a label range goes with class_cuts, and without classes"
            )
        if not -float("inf") < low < high < float("inf"):
            raise ValueError(f"task {self.name}: label_range must ascend, got {low}, {high}")

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number."""
        return self.label_range is not None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Everything that a probe of the task is scored by."""
        return METRICS if self.class_cuts is None else METRICS_OF_CUTS[self.class_cuts]

    @property
    def sign(self) -> int:
        """1 where more of `metric` is better, else -1."""
        return -1 if self.metric in LOWER_IS_BETTER else 1

    def to_json(self) -> dict[str, Any]:
        """The card as ``task.json`` holds it; what older cards do not have is left out if unset."""
        later = ("label_range", "class_cuts", "fixed_parts")
        record = {"format": CARD_FORMAT, **asdict(self)}
        return {key: value for key, value in record.items() if key not in later or value}

    @classmethod
    def from_json(cls, record: dict[str, Any], where: Path) -> "TaskCard":
        """Read a card.

        Raises:
            ValueError: Another format version, or missing or unknown fields; names them.
        """
        if record.get("format") != CARD_FORMAT:
            raise ValueError(
                f"{where}: task card format {record.get('format')!r}, this version reads "
                f"{CARD_FORMAT}"
            )
        values = {key: value for key, value in record.items() if key != "format"}
        unknown = set(values) - {entry.name for entry in fields(cls)}
        if unknown:
            raise ValueError(f"{where}: unknown fields {sorted(unknown)}")
        for name in ("classes", "modalities", "notes", "label_range", "fixed_parts"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Task:
    """An opened task: the card and the shards that it describes."""

    card: TaskCard
    folder: Path
    shards: ShardSet = field(repr=False)
    learn_shards: ShardSet | None = field(repr=False, default=None)
    """What `TaskCard.learn_split` names."""
    fixed_shards: tuple[ShardSet, ...] = field(repr=False, default=())
    """What `TaskCard.fixed_parts` names."""

    @property
    def parts(self) -> tuple[ShardSet, ...]:
        """What is split into train, validation and test, then what is only trained on.

        Where the authors fixed the parts: training, validation and test.
        """
        if self.fixed_shards:
            return self.fixed_shards
        return (self.shards,) if self.learn_shards is None else (self.shards, self.learn_shards)

    @property
    def name(self) -> str:
        """The card's name; reports are named after it."""
        return self.card.name


def task_name(name_or_folder: str) -> str:
    """What a task's reports are named after: its card's name; that of a built-in one is its own.

    Raises:
        ValueError: The folder's card cannot be read.
    """
    card = Path(name_or_folder) / CARD_FILE
    return str(read_json(card).get("name")) if card.is_file() else Path(name_or_folder).name


def open_task(folder: Path) -> Task:
    """Open a task folder.

    Raises:
        ValueError: The folder has no readable card.
        data_sharding.schema.ShardError: The folder is no shard set, or lacks the card's split.
    """
    if not (folder / CARD_FILE).is_file():
        raise ValueError(
            f"{folder}: no {CARD_FILE} here, so this is no task; import a labelled set first"
        )
    card = TaskCard.from_json(read_json(folder / CARD_FILE), folder / CARD_FILE)
    learn = card.learn_split
    return Task(
        card=card,
        folder=folder,
        shards=ShardSet.open(folder, split=card.split),
        learn_shards=None if learn is None else ShardSet.open(folder, split=learn),
        fixed_shards=tuple(ShardSet.open(folder, split=part) for part in card.fixed_parts or ()),
    )


def save_card(folder: Path, card: TaskCard) -> Task:
    """Make a task of a shard set: write the card beside the shards and open it."""
    ShardSet.open(folder, split=card.split)
    write_json(folder / CARD_FILE, card.to_json())
    return open_task(folder)


def publish_folder(out: Path, build: Callable[[Path], None]) -> None:
    """Fill a temporary sibling of ``out`` and rename it: the folder appears whole or not at all.

    Raises:
        ValueError: ``out`` exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists already and is not empty; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp-", dir=out.parent))
    try:
        build(temporary / out.name)
        if out.exists():
            out.rmdir()
        os.rename(temporary / out.name, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
