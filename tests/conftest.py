"""Every test runs with shapes checked by jaxtyping and beartype."""

import os

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Two ranks share two cores; torch's own default would start a thread per core in each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

install_import_hook(["data_sharding", "pretrain", "eval", "launch"], "beartype.beartype")


@pytest.fixture(scope="session")
def sample_shards(tmp_path_factory):
    """The bundled sample corpus as shards with statistics."""
    # Imported late: the hook above must come first.
    from data_sharding.job import ShardingConfig, shard_corpus
    from data_sharding.stats import StatsConfig, compute_stats
    from eval.importers.sample_topics import CORPUS

    out = tmp_path_factory.mktemp("sample") / "shards"
    shard_corpus(CORPUS, out, ShardingConfig())
    compute_stats(out, StatsConfig())
    return out
