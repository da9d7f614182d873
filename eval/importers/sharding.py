"""How labelled sets are sharded: whole, because published protocols count their rows."""

from data_sharding.duplicates import DuplicatesConfig
from data_sharding.job import ShardingConfig


def whole_set(licence: str | None) -> ShardingConfig:
    """Repeated rows stay; a row that is broken is still left out and counted."""
    return ShardingConfig(licence=licence, duplicates=DuplicatesConfig(exact="keep", near="off"))
