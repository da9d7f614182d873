"""The plan of a sharding job: a corpus's rows, dealt out to files of which each is one task."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from data_sharding.durable import sync_folder, write_durably
from data_sharding.job.folder import JobFolder
from data_sharding.progress import track
from data_sharding.schema import canonical_json
from data_sharding.sources.rows import Row, decode_row, encode_row


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many tasks there are.

    Attributes:
        tasks: Number of files of rows.
        rows: Rows in all of them.
        rows_per_task: Rows in each but the last.
    """

    tasks: int
    rows: int
    rows_per_task: int


def plan_rows(folder: JobFolder, rows: Iterable[Row], rows_per_task: int) -> Plan:
    """Writes the files of rows, or finds that it has been done; holds one row at a time.

    Args:
        folder: The job.
        rows: The corpus; not touched where the plan is there already.
        rows_per_task: Most rows in a file.
    """
    if folder.plan_file.is_file():
        return Plan(**json.loads(folder.plan_file.read_bytes()))
    shutil.rmtree(folder.rows_file(0).parent)
    folder.rows_file(0).parent.mkdir()
    tasks = count = 0
    lines = (encode_row(row) for row in track(rows, "reading the corpus's rows"))
    while written := _write_lines(folder, tasks, islice(lines, rows_per_task)):
        tasks, count = tasks + 1, count + written
    sync_folder(folder.rows_file(0).parent)
    plan = Plan(tasks=tasks, rows=count, rows_per_task=rows_per_task)
    write_durably(folder.plan_file, canonical_json(asdict(plan)))
    return plan


def rows_of_task(folder: JobFolder, number: int) -> Iterator[Row]:
    """The rows of one file, in order."""
    with folder.rows_file(number).open("rb") as file:
        for line in file:
            yield decode_row(line)


def rows_between(folder: JobFolder, first: int, last: int, rows_per_task: int) -> Iterator[Row]:
    """Rows `first` to `last`, counted through all files from 0, both included."""
    for number in range(first // rows_per_task, last // rows_per_task + 1):
        start = number * rows_per_task
        here = rows_of_task(folder, number)
        yield from islice(here, max(first - start, 0), last + 1 - start)


def _write_lines(folder: JobFolder, number: int, lines: Iterator[bytes]) -> int:
    """Writes the lines to a file of their own, if there are any; returns how many."""
    first = next(lines, None)
    if first is None:
        return 0
    with folder.rows_file(number).open("wb") as file:
        file.write(first)
        count = 1 + sum(1 for line in lines if file.write(line))
        file.flush()
        os.fsync(file.fileno())
    return count
