"""Raw corpora in; tar shards, an index beside each, and an endless stream of TripleBatch out.

Must not know what the batches are for: no model, no view, no loss, no cluster.
"""

from data_sharding.batch import DecodedSample, SampleTensors, SampleTransform, TripleBatch, collate
from data_sharding.clean import CleanConfig
from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.job import ShardingConfig, ShardReport, shard_corpus
from data_sharding.loader import LoaderConfig, TripleLoader, evaluation_pass
from data_sharding.logmel import LogMel, LogMelConfig
from data_sharding.manifest import ShardEntry, ShardSet
from data_sharding.order import LaneOrder, OrderConfig, Slice
from data_sharding.reader import ShardReader
from data_sharding.schema import MODALITIES, DecodeError, RawSample, Record, ShardError
from data_sharding.stats import CorpusStats, StatsConfig, compute_stats
from data_sharding.vocabulary import VocabularyConfig

__all__ = [
    "MODALITIES",
    "CleanConfig",
    "CorpusStats",
    "DecodeConfig",
    "DecodeError",
    "DecodedSample",
    "Decoder",
    "LaneOrder",
    "LoaderConfig",
    "LogMel",
    "LogMelConfig",
    "OrderConfig",
    "RawSample",
    "Record",
    "SampleTensors",
    "SampleTransform",
    "ShardEntry",
    "ShardError",
    "ShardReader",
    "ShardReport",
    "ShardSet",
    "ShardingConfig",
    "Slice",
    "StatsConfig",
    "TripleBatch",
    "TripleLoader",
    "VocabularyConfig",
    "collate",
    "compute_stats",
    "evaluation_pass",
    "shard_corpus",
]
