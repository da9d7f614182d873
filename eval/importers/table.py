"""A table of one's own -> a task: CSV or JSONL with a label column, media beside it."""

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_sharding.cleaning.media import locate_below
from data_sharding.schema import Rejection
from data_sharding.sources.fields import LABEL_PREFIX, parse_json
from eval.card import Task, TaskCard
from eval.importers.near_duplicates import with_clusters
from eval.importers.parts import decide_parts
from eval.importers.rows import (
    PARTS,
    VALIDATION_PARTS,
    Account,
    LabelledRow,
    build_task,
    open_table,
)
from eval.regression_metrics import ClassCuts

OURS = ("id", "text", "image", "audio")
VALIDATION_SHARE = 0.2
"""Of the training groups, where a table names training and test rows alone."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """What the columns of a table mean."""

    label: str
    """Column of the label; in JSONL also a key of `labels`. Rows without one are dropped."""

    group: str | None = None
    """Column of what must not be parted: speaker, video, picture. If not given, rows that share a
    picture, a recording or their words are one group."""

    name: str | None = None
    """Of the task; if not given, that of the table's folder."""

    classes: tuple[str, ...] = ()
    """The label set, in order; if not given, the labels that occur, sorted."""

    label_range: tuple[float, float] | None = None
    """Least and greatest label, where the label is a number: makes a regression task."""

    cuts: ClassCuts | None = None
    """How numbers are cut into classes, `mosi` or `sims`; if not given: by sign where 0 lies inside
    the range, else not at all."""

    parts: str | None = None
    """Column that says train, validation (valid, val, dev) or test: these parts are kept. Without
    validation rows a fifth of the training groups becomes the validation part."""

    columns: dict[str, str] = field(default_factory=dict)
    """Our name -> the table's, where they differ; ours are id, text, image, audio."""

    media_root: Path | None = None
    """Folder that image and audio may not lead out of; if not given, the table's folder."""

    licence: str = "not stated"
    """Terms of the labelled set, as the card gives them."""

    source: str | None = None
    """Where the set comes from; if not given, the table's file name."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(OURS))
        if unknown:
            raise ValueError(f"--columns maps {unknown}; ours are {', '.join(OURS)}")
        if self.classes and self.label_range:
            raise ValueError("give --classes or --label-range, not both")
        if self.cuts and not self.label_range:
            raise ValueError("--cuts is for a regression task: give --label-range as well")


def import_table(table: Path, out: Path, config: TableConfig) -> Task:
    """Shard a table and write its card.

    Args:
        table: CSV with a heading, or JSONL; image and audio are paths from its folder.
        out: Task folder to create.
        config: What its columns mean.

    Raises:
        ValueError: No such file or column, a label outside the label set, a missing group, a path
            that leads out of the media root, or ``out`` exists and is not empty.
        data_sharding.schema.ShardError: The rows cannot be sharded.
    """
    account = Account()
    rows = [row for row in _rows(table, config, account) if row is not None]
    if not rows:
        raise ValueError(f"{table}: no row has a label in {config.label!r}")
    notes: list[str] = []
    if config.group is None:
        rows = with_clusters(rows, texts=True)
        notes.append("groups: rows that share a picture, a recording or their words")
    if config.parts is not None:
        rows = _with_validation(rows, notes)
    who = "authors" if config.parts else "groups"
    decided = decide_parts(rows, who, config.group or "group", "leaving --parts out")
    found = Counter(row.labels[config.label] for row in rows)
    card = _card(table, config, sorted(found), decided.rule, decided.group_key)
    card = replace(card, fixed_parts=PARTS if decided.fixed else None)
    return build_task(decided.rows, card, out, [*account.notes({}), *notes, *decided.notes])


def _rows(table: Path, config: TableConfig, account: Account) -> Iterator[LabelledRow | None]:
    seen_columns: set[str] = set()
    for number, cells in _cells(table):
        seen_columns |= set(cells)
        where = f"{table}, row {number}"
        label = _cell(cells, config.label)
        if label is None:
            account.counts["dropped: no label"] += 1
            continue
        yield _row(cells, number, _checked(label, config, where), (table, config, account))
    # Rows of JSONL need not have all columns: only the last one tells that none has this.
    if seen_columns and not seen_columns & {config.label, LABEL_PREFIX + config.label}:
        there = ", ".join(sorted(filter(None, seen_columns)))  # what a CSV row has too many is None
        raise ValueError(f"{table} has no column {config.label!r}; it has {there}")


def _row(
    cells: Mapping[str, Any], number: int, label: str, told: tuple[Path, TableConfig, Account]
) -> LabelledRow | None:
    table, config, account = told
    where = f"{table}, row {number}"
    group = None if config.group is None else _cell(cells, config.group)
    if config.group is not None and group is None:
        raise ValueError(f"{where}: no {config.group!r}, its group")
    text = _cell(cells, config.columns.get("text", "text"))
    image, audio = (_medium(cells, name, table, config) for name in ("image", "audio"))
    for name, path in (("image", image), ("audio", audio)):
        account.counts[f"rows whose {name} file is missing"] += path is not None and (
            not path.is_file()
        )
    row = LabelledRow(
        row_id=_cell(cells, config.columns.get("id", "id")) or f"row-{number}",
        text=text,
        image=image if image and image.is_file() else None,
        audio=audio if audio and audio.is_file() else None,
        labels={config.label: label},
        group=group,
        split=_part(cells, config, where),
    )
    if row.text is None and not row.media:
        account.counts["dropped: neither text nor a medium"] += 1
        return None
    return row


def _cells(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of the table, numbered from 1.

    Raises:
        ValueError: No such file, another kind of file, or a line that is no row.
    """
    if not table.exists():
        raise ValueError(f"{table}: no such file")
    if table.suffix.lower() not in (".csv", ".jsonl") or not table.is_file():
        raise ValueError(f"{table}: a table is a file ending in .csv or .jsonl")
    with open_table(table) as stream:
        if table.suffix.lower() == ".csv":
            yield from enumerate(csv.DictReader(stream), start=1)
            return
        for number, line in enumerate((line for line in stream if line.strip()), start=1):
            cells = parse_json(line)
            if isinstance(cells, Rejection):
                raise ValueError(f"{table}, row {number}: {cells.detail}")
            yield number, cells


def _cell(cells: Mapping[str, Any], column: str) -> str | None:
    value = cells.get(column, cells.get(LABEL_PREFIX + column))
    word = "" if value is None else str(value).strip()
    return word or None


def _medium(cells: Mapping[str, Any], name: str, table: Path, config: TableConfig) -> Path | None:
    word = _cell(cells, config.columns.get(name, name))
    if word is None:
        return None
    root = config.media_root or table.parent
    try:
        return Path(locate_below(str(root), str(table.parent.absolute() / word)))
    except Rejection as error:
        raise ValueError(
            f"{table}: {name} {word!r} does not lie below {root}; --media-root names a folder that "
            "holds them all"
        ) from error


def _checked(label: str, config: TableConfig, where: str) -> str:
    """The label as it is stored.

    Raises:
        ValueError: It is none of the classes, or no number within the range.
    """
    if config.label_range is None:
        if config.classes and label not in config.classes:
            raise ValueError(f"{where}: label {label!r} is none of {', '.join(config.classes)}")
        return label
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not config.label_range[0] <= value <= config.label_range[1]:
        raise ValueError(f"{where}: label {label!r} is no number within {config.label_range}")
    return repr(value)


def _part(cells: Mapping[str, Any], config: TableConfig, where: str) -> str:
    if config.parts is None:
        return "train"
    word = (_cell(cells, config.parts) or "").lower()
    part = "validation" if word in VALIDATION_PARTS else word
    if part not in PARTS:
        raise ValueError(f"{where}: {config.parts} is {word!r}, none of train, validation, test")
    return part


def _with_validation(rows: Sequence[LabelledRow], notes: list[str]) -> list[LabelledRow]:
    """A fifth of the training groups, by their hash, where there are no validation rows."""
    if any(row.split == "validation" for row in rows):
        return list(rows)
    groups = {row.group or row.row_id for row in rows if row.split == "train"}
    drawn = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen = set(drawn[: max(1, round(VALIDATION_SHARE * len(drawn)))])
    notes.append(f"no validation rows: {len(chosen)} of {len(drawn)} training groups, by hash")
    return [
        replace(row, split="validation")
        if row.split == "train" and (row.group or row.row_id) in chosen
        else row
        for row in rows
    ]


def _card(
    table: Path, config: TableConfig, labels: Sequence[str], rule: str, group_key: str | None
) -> TaskCard:
    low, high = config.label_range or (0.0, 0.0)
    cuts: ClassCuts = config.cuts or ("sign" if low < 0.0 < high else "none")
    return TaskCard(
        name=config.name or table.absolute().parent.name,
        label_key=config.label,
        group_key=group_key,
        classes=() if config.label_range else (config.classes or tuple(labels)),
        label_range=config.label_range,
        class_cuts=cuts if config.label_range else None,
        modalities=("text",),
        licence=config.licence,
        source=config.source or f"the table {table.name}",
        split_rule=rule,
    )
