import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.vocabulary import VocabularyConfig
from tiny_corpus import write_corpus


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A finished set of 24 triples (18 train, 6 test) with its statistics; read only."""
    folder = tmp_path_factory.mktemp("set")
    write_corpus(folder / "corpus", 24)
    shard_corpus(folder / "corpus", folder / "shards", ShardingConfig(samples_per_shard=7))
    vocabulary = VocabularyConfig(vocab_size=120, min_frequency=1)
    compute_stats(folder / "shards", StatsConfig(vocabulary=vocabulary))
    return folder / "shards"
