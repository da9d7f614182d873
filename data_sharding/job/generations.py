"""What a shard set keeps so that it can be appended to: the signatures of its samples.

``signatures/generation-000.npy`` has 350 bytes for each sample that the generation wrote, in the
order of the corpus, and after them 350 for each place of alternatives that a sample uses;
``generation-000.json`` names the splits that its split numbers stand for.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_sharding.duplicates import SignatureFile
from data_sharding.duplicates.table import write_signatures
from data_sharding.durable import write_durably
from data_sharding.job.divide import Earlier, Resolution
from data_sharding.job.folder import JobFolder
from data_sharding.job.plan import Plan
from data_sharding.manifest import ShardSet
from data_sharding.schema import canonical_json


def signatures_file(out: Path, generation: int) -> Path:
    """Where a generation's signatures lie."""
    return out / "signatures" / f"generation-{generation:03d}.npy"


def open_earlier(shard_set: ShardSet) -> Earlier:
    """The signatures of all generations of a set.

    Raises:
        ValueError: A generation has none, or not those of its samples.
    """
    files, splits = [], []
    numbers = iter(shard_set.shards)
    for generation, part in enumerate(shard_set.generations):
        path = signatures_file(shard_set.folder, generation)
        if not path.is_file() or not path.with_suffix(".json").is_file():
            raise ValueError(
                f"{path} is missing, so that repetitions of earlier samples cannot be found; only "
                "sets made by `triptych shard` can be appended to"
            )
        file = SignatureFile.open(path)
        samples = sum(next(numbers).samples for _ in range(part.num_shards))
        if file.rows != samples:
            raise ValueError(f"{path}: {file.rows} rows, but the generation has {samples} samples")
        files.append(file)
        splits.append(tuple(json.loads(path.with_suffix(".json").read_bytes())["splits"]))
    return Earlier(files=tuple(files), splits=tuple(splits))


def keep_signatures(folder: JobFolder, plan: Plan, resolution: Resolution, generation: int) -> None:
    """Writes the signatures of the rows that became samples."""
    path = signatures_file(folder.out, generation)
    path.parent.mkdir(exist_ok=True)
    total = 0
    for number in range(plan.tasks):
        total += int(_kept(states_of_task(folder, plan, number), resolution).sum())
    others = sum(len(piece) for piece in _kept_alternatives(folder, plan, resolution))
    write_signatures(
        path,
        total,
        _kept_rows(folder, plan, resolution),
        others,
        _kept_alternatives(folder, plan, resolution),
    )
    names = canonical_json({"splits": list(resolution.splits)})
    write_durably(path.with_suffix(".json"), names)


def states_of_task(folder: JobFolder, plan: Plan, number: int) -> np.ndarray:
    """The states of one scan task's rows."""
    offset = number * plan.rows_per_task
    count = min(plan.rows_per_task, plan.rows - offset)
    return np.fromfile(folder.state_file, np.uint8, count, offset=offset)


def _kept(states: np.ndarray, resolution: Resolution) -> np.ndarray:
    return (states > 0) & (states <= len(resolution.splits))


def _kept_rows(folder: JobFolder, plan: Plan, resolution: Resolution) -> Iterator[np.ndarray]:
    for number in range(plan.tasks):
        table = SignatureFile.open(folder.table_file(number))
        states = states_of_task(folder, plan, number)
        kept = _kept(states, resolution)
        rows = table.read(0, table.rows)[kept].copy()
        rows["split"] = states[kept] - 1
        yield rows


def _kept_alternatives(
    folder: JobFolder, plan: Plan, resolution: Resolution
) -> Iterator[np.ndarray]:
    """Signatures of alternatives of the rows that became samples, numbered as those are."""
    before = 0
    for number in range(plan.tasks):
        kept = _kept(states_of_task(folder, plan, number), resolution)
        table = SignatureFile.open(folder.table_file(number)).alternatives
        if table is not None:
            rows = table.read(0, table.rows)
            rows = rows[kept[rows["number"]]].copy()
            rows["number"] = before + (np.cumsum(kept) - 1)[rows["number"]]
            yield rows
        before += int(kept.sum())
