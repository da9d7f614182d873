"""An unfinished sharding job on disk: where its files lie, and which tasks are done.

While a job runs, OUT holds an ``unfinished`` folder. A task is named by OUT, its stage and its
number alone; everything else lies in files. A task without a receipt does not count and is done
again; its receipt is the last thing that it writes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from data_sharding.durable import write_durably
from data_sharding.job.config import ShardingConfig
from data_sharding.schema import canonical_json
from data_sharding.settings import from_json

Stage = Literal["scan", "write"]

UNFINISHED = "unfinished"


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What all tasks of a job share.

    Attributes:
        job: Names the job; a receipt of another one does not count.
        root: Location that the paths of media are relative to.
        config: The job's settings.
        first_shard: Number of the job's first shard; more than 0 where it appends to a set.
    """

    job: str
    root: str
    config: ShardingConfig
    first_shard: int = 0


@dataclass(frozen=True)
class JobFolder:
    """Paths and receipts of the unfinished job in a folder."""

    out: Path

    @property
    def unfinished(self) -> Path:
        """Gone when the job is done."""
        return self.out / UNFINISHED

    @property
    def job_file(self) -> Path:
        """What makes the job this job; also its lock."""
        return self.unfinished / "job.json"

    @property
    def plan_file(self) -> Path:
        """Receipt of the plan: numbers of tasks and rows."""
        return self.unfinished / "plan.json"

    @property
    def resolved_file(self) -> Path:
        """Receipt of the step between scan and write."""
        return self.unfinished / "resolved.json"

    @property
    def state_file(self) -> Path:
        """One byte for each row: its split, or why it is left out."""
        return self.unfinished / "state.bin"

    @property
    def origins_file(self) -> Path:
        """Four bytes for each row: the row that it repeats."""
        return self.unfinished / "copies.bin"

    @property
    def shards_file(self) -> Path:
        """The shards to write, one line of JSON each."""
        return self.unfinished / "shards.jsonl"

    @property
    def scratch(self) -> Path:
        """Half-written shards, and what the resolve step sorts."""
        return self.unfinished / "scratch"

    @property
    def logs(self) -> Path:
        """What submitted tasks say."""
        return self.unfinished / "logs"

    def rows_file(self, number: int) -> Path:
        """The rows of one scan task."""
        return self.unfinished / "rows" / f"rows-{number:06d}.jsonl"

    def table_file(self, number: int) -> Path:
        """The signatures of one scan task's rows."""
        return self.unfinished / "scan" / f"scan-{number:06d}.npy"

    def receipt_file(self, stage: Stage, number: int) -> Path:
        """What a finished task leaves behind."""
        return self.unfinished / stage / f"{stage}-{number:06d}.json"

    def prepare(self, settings: TaskSettings) -> None:
        """Makes the folders, and leaves every task what it needs to know."""
        for name in ("rows", "scan", "write", "scratch"):
            (self.unfinished / name).mkdir(exist_ok=True)
        write_durably(self.unfinished / "tasks.json", canonical_json(asdict(settings)))

    def settings(self) -> TaskSettings:
        """What `prepare` left.

        Raises:
            ValueError: There is no unfinished job in the folder.
        """
        path = self.unfinished / "tasks.json"
        if not path.is_file():
            raise ValueError(f"{self.out} holds no unfinished sharding job, so there are no tasks")
        return from_json(TaskSettings, json.loads(path.read_bytes()))

    @cached_property
    def job(self) -> str:
        """Names the job; read once, since every look at a receipt asks for it."""
        return self.settings().job

    def write_receipt(self, stage: Stage, number: int, content: Mapping[str, Any]) -> None:
        """Declares a task finished; what it made must be durable already."""
        write_durably(self.receipt_file(stage, number), canonical_json(content))

    def read_receipt(self, stage: Stage, number: int) -> dict[str, Any]:
        """The receipt of a finished task."""
        return json.loads(self.receipt_file(stage, number).read_bytes())

    def is_done(self, stage: Stage, number: int) -> bool:
        """Whether a task has its receipt and what the receipt promises is still there."""
        if not self.receipt_file(stage, number).is_file():
            return False
        receipt = self.read_receipt(stage, number)
        return receipt["job"] == self.job and all(
            path.is_file() and path.stat().st_size == size
            for path, size in _promised(self, receipt)
        )

    def missing(self, stage: Stage, numbers: Sequence[int]) -> list[int]:
        """The tasks that are still to be done."""
        return [number for number in numbers if not self.is_done(stage, number)]


def _promised(folder: JobFolder, receipt: Mapping[str, Any]) -> Iterator[tuple[Path, int]]:
    for name, size in receipt["files"].items():
        yield folder.out / name, size
