"""Between scan and write: signatures -> a state for each row, and the shards to write.

Memory does not grow with the number of rows, but for the pages of a few bytes a row that the
forests touch.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

from data_sharding.duplicates import SignatureFile, SignatureFiles, find_alike
from data_sharding.durable import write_durably
from data_sharding.job.config import ShardingConfig
from data_sharding.job.divide import Divider, Earlier, Resolution
from data_sharding.job.folder import JobFolder
from data_sharding.job.plan import Plan
from data_sharding.job.splits import MOST_SPLITS, PlannedShard
from data_sharding.schema import canonical_json


def resolve(folder: JobFolder, plan: Plan, config: ShardingConfig, earlier: Earlier) -> Resolution:
    """Finds duplicates and clusters, divides rows among splits, and cuts shards.

    Args:
        folder: The job, all of whose scan tasks are done.
        plan: Its tasks.
        config: Its settings.
        earlier: What it appends to.
    """
    if folder.resolved_file.is_file():
        content = json.loads(folder.resolved_file.read_bytes())
        return Resolution(**{**content, "splits": tuple(content["splits"])})
    new = [SignatureFile.open(folder.table_file(number)) for number in range(plan.tasks)]
    table = SignatureFiles([*earlier.files, *new])
    scratch = folder.scratch / "resolve"
    alike = find_alike(table, earlier.rows, config.duplicates, scratch)
    names = _split_names(folder, plan, config, earlier)
    resolution = Divider(folder, table, alike, earlier, names).run(config)
    shutil.rmtree(scratch)
    write_durably(folder.resolved_file, canonical_json(asdict(resolution)))
    return resolution


def planned_shard(folder: JobFolder, number: int) -> PlannedShard:
    """One of the shards that `resolve` planned."""
    with folder.shards_file.open("rb") as file:
        return PlannedShard(**json.loads(next(islice(file, number, None))))


def planned_shards(folder: JobFolder) -> Iterator[PlannedShard]:
    """All of them, in order."""
    with folder.shards_file.open("rb") as file:
        for line in file:
            yield PlannedShard(**json.loads(line))


def _split_names(
    folder: JobFolder, plan: Plan, config: ShardingConfig, earlier: Earlier
) -> tuple[str, ...]:
    """All names, sorted.

    Raises:
        ValueError: More than a byte can number.
    """
    names = {name for old in earlier.splits for name in old} | set(config.splits)
    if not config.splits:
        for number in range(plan.tasks):
            names |= set(folder.read_receipt("scan", number)["splits"])
    if len(names) > MOST_SPLITS:
        raise ValueError(
            f"the corpus names {len(names)} splits, at most {MOST_SPLITS} are possible; is "
            f"`split` the right column? Delete {folder.unfinished} and run again"
        )
    return tuple(sorted(names))
