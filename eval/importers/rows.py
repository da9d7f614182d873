"""Rows of a labelled set -> a task: laid out as a corpus of our own names, sharded, carded."""

import csv
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from data_sharding.job import shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.schema import DEFAULT_SPLIT
from eval.card import Task, TaskCard, open_task, publish_folder, save_card
from eval.importers.sharding import whole_set

PARTS = ("train", "validation", "test")
"""Splits of the shard set where a set's authors fixed them."""

VALIDATION_PARTS = frozenset({"validation", "valid", "val", "dev"})
"""What label files call the validation part."""


@dataclass(frozen=True, kw_only=True)
class LabelledRow:
    """One usable row of a labelled set."""

    row_id: str
    labels: Mapping[str, str]
    """By label key; a number is written out."""
    text: str | None = None
    image: Path | None = None
    audio: Path | None = None
    group: str | None = None
    """What must lie on one side of a split."""
    split: str = DEFAULT_SPLIT
    """One of `PARTS` where the authors fixed them."""

    @property
    def media(self) -> tuple[Path, ...]:
        """Files of the row."""
        return tuple(path for path in (self.image, self.audio) if path is not None)


@dataclass(kw_only=True)
class Account:
    """What an importer saw: rows kept, and a count of every row that it dropped or changed."""

    counts: Counter[str] = field(default_factory=Counter)
    published: Mapping[str, int] = field(default_factory=dict)
    """Rows of the whole set as published, by part or by class; empty: not known."""
    first: dict[str, str] = field(default_factory=dict)
    """By what is counted: the first case of it, in words; not every count has one."""

    def count(self, what: str, case: str) -> None:
        """Count one more, and keep the first case."""
        self.counts[what] += 1
        self.first.setdefault(what, case)

    def notes(self, found: Mapping[str, int]) -> tuple[str, ...]:
        """Sentences for the card: what is there beside what was published, then the counts."""
        lines = []
        if self.published:
            whole = sum(self.published.values())
            same = all(found.get(name, 0) == count for name, count in self.published.items())
            kept = sum(found.get(name, 0) for name in self.published)
            lines = [
                f"complete: all {whole} published rows"
                if same
                else f"differs from the published set: {kept} rows where {whole} were published"
            ]
            lines += [
                f"{name}: {found.get(name, 0)} of {count} published rows"
                for name, count in self.published.items()
                if found.get(name, 0) != count
            ]
        seen = sorted((what, count) for what, count in self.counts.items() if count)
        told = (f"{what}: {count}{self._case(what)}" for what, count in seen)
        return (*lines, *told)

    def _case(self, what: str) -> str:
        return f" (the first: {self.first[what]})" if what in self.first else ""


@contextmanager
def open_table(table: Path) -> Iterator[TextIO]:
    """A table's text, for the csv module or line by line.

    Raises:
        ValueError: A line that is read is no UTF-8; names it.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except UnicodeDecodeError as error:  # tells a place in what it had buffered, not in the file
        with table.open("rb") as stream:
            line = next(n for n, text in enumerate(stream, start=1) if not _is_utf8(text))
        raise ValueError(
            f"{table}, line {line}: no UTF-8 ({error.reason}, 0x{error.object[error.start]:02x}); "
            "save the table as UTF-8"
        ) from error


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def table_lines(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of an authors' CSV file with their numbers, the heading being line 1.

    Raises:
        ValueError: The table lacks one of the columns, or is no UTF-8.
    """
    with open_table(table) as stream:
        lines = csv.DictReader(stream)
        there = lines.fieldnames or ()
        if missing := [name for name in columns if name not in there]:
            raise ValueError(
                f"{table}: lacks the columns {', '.join(missing)}; it has "
                f"{', '.join(there) or 'none'}"
            )
        yield from enumerate(lines, start=2)


def build_task(
    rows: Sequence[LabelledRow], card: TaskCard, out: Path, notes: Sequence[str]
) -> Task:
    """Shard the rows and write the card.

    Media are linked, or copied, under names of our own, so that the task's digest does not depend
    on where the set lay. Rows whose media are broken are left out; the card counts them.

    Args:
        rows: At least one, ids unique.
        card: Without the modalities' counts; its notes stay first.
        out: Task folder to create.
        notes: Further notes.

    Raises:
        ValueError: No row, an id twice, or ``out`` exists and is not empty.
        data_sharding.schema.ShardError: The rows cannot be sharded.
    """
    if not rows:
        raise ValueError(f"task {card.name}: no usable row is left; {'; '.join(notes) or 'none'}")
    twice = [name for name, count in Counter(row.row_id for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"task {card.name}: {len(twice)} ids occur twice: {sorted(twice)[:5]}")
    present = {"text": any(row.text for row in rows)}
    present["image"] = any(row.image for row in rows)
    present["audio"] = any(row.audio for row in rows)
    modalities = tuple(name for name, there in present.items() if there)
    full = replace(card, modalities=modalities, notes=(*card.notes, *notes))
    publish_folder(out, lambda shards: _shard(rows, shards, full))
    return open_task(out)


def _shard(rows: Sequence[LabelledRow], shards: Path, card: TaskCard) -> None:
    """Lay the rows out as a corpus beside ``shards`` (a corpus may not point outside itself)."""
    corpus = shards.parent / "corpus"
    corpus.mkdir(parents=True)
    with (corpus / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for number, row in enumerate(rows):
            written = json.dumps(_manifest_row(row, number, corpus), ensure_ascii=False)
            manifest.write(written + "\n")
    shard_corpus(corpus, shards, whole_set(card.licence))
    rejects = ShardSet.open(shards).rejects
    told = tuple(f"left out by sharding, {why}: {count}" for why, count in rejects.items())
    save_card(shards, replace(card, notes=(*card.notes, *told)))


def _manifest_row(row: LabelledRow, number: int, corpus: Path) -> dict[str, object]:
    record: dict[str, object] = {"id": row.row_id, "labels": dict(row.labels), "split": row.split}
    record["metadata"] = {} if row.group is None else {"group": row.group}
    if row.text:
        record["text"] = row.text
    for name, path in (("image", row.image), ("audio", row.audio)):
        if path is not None:
            record[name] = f"{name}-{number:08d}{path.suffix.lower()}"
            _link(path, corpus / str(record[name]))
    return record


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source.resolve(), place)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, place)
