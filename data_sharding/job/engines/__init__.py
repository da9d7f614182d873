"""Where the tasks of a sharding job run: here, on Ray, or wherever a scheduler puts them.

An engine gets OUT, a stage and task numbers; tasks that have their receipt are not run again. It
knows nothing of rows and shards, and nothing but numbers travels.
"""

from data_sharding.job.engines.engine import Engine, OnDone
from data_sharding.job.engines.local import LocalEngine
from data_sharding.job.engines.ray import RayEngine
from data_sharding.job.engines.submitted import ArrayJob, SubmittedEngine

__all__ = ["ArrayJob", "Engine", "LocalEngine", "OnDone", "RayEngine", "SubmittedEngine"]
