"""A raw corpus becomes a shard set: plan, scan, resolve, write, and the manifest last.

In: a corpus, settings, and an engine that runs tasks. Out: a folder whose bytes depend on the first
two alone. A task is (folder, stage, number); everything else it needs lies in files.
"""

from data_sharding.job.config import ShardingConfig
from data_sharding.job.report import ShardReport
from data_sharding.job.run import shard_corpus

__all__ = ["ShardReport", "ShardingConfig", "shard_corpus"]
