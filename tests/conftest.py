"""Every test runs with shapes checked by jaxtyping and beartype."""

import fcntl
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
    """The bundled sample corpus as shards with statistics: made once for all workers, read only."""
    # Imported late: the hook above must come first.
    from data_sharding.job import ShardingConfig, shard_corpus
    from data_sharding.stats import StatsConfig, compute_stats
    from eval.importers.sample_topics import CORPUS

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker's folder lies in that of the session
        folder = folder.parent
    folder /= "sample"
    folder.mkdir(exist_ok=True)
    out = folder / "shards"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            shard_corpus(CORPUS, out, ShardingConfig())
            compute_stats(out, StatsConfig())
            (folder / "made").touch()
    return out
