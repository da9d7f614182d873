"""The last step of a sharding job: rejects listed, signatures kept, and the manifest last."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_sharding.duplicates import SignatureFile, SignatureFiles
from data_sharding.durable import writing_durably
from data_sharding.job.claim import remove_shards
from data_sharding.job.divide import REASONS, Earlier, Resolution
from data_sharding.job.folder import JobFolder
from data_sharding.job.generations import keep_signatures, states_of_task
from data_sharding.job.plan import Plan, rows_of_task
from data_sharding.job.scan import reject_line
from data_sharding.manifest import Generation, ShardEntry, write_manifest
from data_sharding.schema import canonical_json

REJECTS_FILE = "rejects.jsonl"


def rejects_file(out: Path, generation: int) -> Path:
    """Where a generation lists the rows that it left out."""
    return out / (REJECTS_FILE if generation == 0 else f"rejects-{generation:03d}.jsonl")


def list_scan_rejects(folder: JobFolder, path: Path, tasks: Sequence[int]) -> None:
    """Lists what the given tasks rejected; for a job that gives up."""
    with writing_durably(path) as file:
        for number in tasks:
            for reject in folder.read_receipt("scan", number)["rejects"]:
                file.write(_line(reject))


class Finish:
    """Turns a folder whose tasks are all done into a shard set.

    Args:
        folder: The job.
        plan: Its tasks.
        resolution: Its shards and splits.
        earlier: Signatures of the generations before.
    """

    def __init__(
        self, folder: JobFolder, plan: Plan, resolution: Resolution, earlier: Earlier
    ) -> None:
        self._folder = folder
        self._plan = plan
        self._resolution = resolution
        self._earlier = earlier

    def run(
        self,
        identity: Mapping[str, Any],
        shards: Sequence[ShardEntry],
        generations: Sequence[Generation],
    ) -> None:
        """Writes everything, the manifest last.

        Args:
            identity: What the job was told.
            shards: Shards of earlier generations.
            generations: The earlier generations.
        """
        number = len(generations)
        made = [
            ShardEntry(**self._folder.read_receipt("write", each)["shard"])
            for each in range(self._resolution.shards)
        ]
        remove_shards(self._folder, len(shards) + len(made))
        counts: Counter[str] = Counter()
        with writing_durably(rejects_file(self._folder.out, number)) as file:
            for reject in self._rejects():
                counts[str(reject["reason"])] += 1
                file.write(_line(reject))
        keep_signatures(self._folder, self._plan, self._resolution, number)
        generation = Generation(
            num_shards=len(made),
            sources=tuple(identity["sources"]),
            licence=identity["config"]["licence"],
            rejects=dict(sorted(counts.items())),
            config=_without_places(identity["config"]),
        )
        write_manifest(self._folder.out, [*shards, *made], [*generations, generation])

    def _rejects(self) -> Iterator[Mapping[str, Any]]:
        """All rows left out, in the order of the corpus."""
        new = [SignatureFile.open(self._folder.table_file(n)) for n in range(self._plan.tasks)]
        table = SignatureFiles([*self._earlier.files, *new])
        for number in range(self._plan.tasks):
            scanned = self._folder.read_receipt("scan", number)["rejects"]
            yield from sorted(
                [*scanned, *self._left_out(number, table)], key=lambda reject: reject["at"]
            )

    def _left_out(self, number: int, table: SignatureFiles) -> list[dict[str, Any]]:
        """The rows of one scan task that were found to repeat or to bridge others."""
        states = states_of_task(self._folder, self._plan, number)
        if states.max(initial=0) < min(REASONS):
            return []
        offset = 4 * number * self._plan.rows_per_task
        origins = np.fromfile(self._folder.origins_file, "<u4", len(states), offset=offset)
        repeated = table.gather(np.maximum(origins.astype(np.int64) - 1, 0))["number"]
        found = []
        for at, row in enumerate(rows_of_task(self._folder, number)):
            if (state := int(states[at])) in REASONS:
                detail = self._detail(int(origins[at]) - 1, int(repeated[at]))
                found.append({**reject_line(row, REASONS[state], detail), "at": at})
        return found

    def _detail(self, origin: int, number: int) -> str:
        if origin < 0:
            return "it is like samples of two splits, which would meet through it"
        before = 0
        for generation, file in enumerate(self._earlier.files):
            if origin < (before := before + file.rows):
                return f"it repeats row {number} of generation {generation}"
        return f"it repeats row {number}"


def _without_places(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without what names a place on this machine: a manifest is published."""
    source = {name: value for name, value in config["source"].items() if name != "media_root"}
    return {**config, "source": source}


def _line(reject: Mapping[str, Any]) -> bytes:
    return canonical_json({k: v for k, v in reject.items() if k != "at"}) + b"\n"
