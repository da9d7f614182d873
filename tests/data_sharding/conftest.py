import boto3
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

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


@pytest.fixture(scope="session")
def object_store():
    """A client of an S3 server on loopback: one for all tests, since s3fs keeps its connections."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3")
        try:
            yield client
        finally:
            client.close()
            server.stop()
