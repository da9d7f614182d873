import logging
import multiprocessing
import os
import resource
import shutil
import time
from dataclasses import replace

import pytest

from data_sharding.index import read_index
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ReaderConfig, ReaderCounters, ShardReader
from data_sharding.schema import SampleFault, ShardError
from tiny_shards import QUICK, content, members_of, served, write_set

MEDIA_BYTES = 40_000


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("o") / "set", sizes=(30, 20), media_bytes=MEDIA_BYTES)


@pytest.fixture
def www(original, tmp_path):
    return shutil.copytree(original.folder, tmp_path / "www")


@pytest.fixture
def server(www):
    with served(www) as server:
        yield server


@pytest.fixture
def cached(tmp_path):
    return ReaderConfig(retry=QUICK, cache_folder=tmp_path / "cache")


@pytest.fixture
def uncached():
    return ReaderConfig(retry=QUICK)


def expected(sample_id):
    return members_of(sample_id, MEDIA_BYTES)


def read_all(reader):
    return [content(reader.read(sample_id)) for sample_id in range(len(reader))]


def everything():
    return [expected(sample_id) for sample_id in range(50)]


def read_in_child(url: str, config: ReaderConfig, environment: dict[str, str], results) -> None:
    os.environ.update(environment)  # the fork server may be older than the credentials
    reader = ShardReader(ShardSet.open(url), config)
    reader.prefetch(range(len(reader)))
    good = sum(content(reader.read(number)) == expected(number) for number in range(len(reader)))
    results.put((good, reader.counters()))


def in_children(number, url, config):
    """Reads a set in fork-server children at once; gives what each found."""
    context = multiprocessing.get_context("forkserver")
    results = context.SimpleQueue()
    children = [
        context.Process(target=read_in_child, args=(url, config, dict(os.environ), results))
        for _ in range(number)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=120)
        assert child.exitcode == 0
    return [results.get() for _ in children]


def flip(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        old = file.read(1)
        file.seek(place)
        file.write(bytes([old[0] ^ 1]))


def test_a_set_on_a_web_server_reads_as_on_disk(server, uncached, cached):
    for config in (uncached, cached, cached):
        reader = ShardReader(ShardSet.open(server.url), config)
        assert read_all(reader) == everything()
        reader.close()


def test_a_second_pass_comes_from_the_cache(server, cached):
    reader = ShardReader(ShardSet.open(server.url), cached)
    read_all(reader)
    first = reader.counters()
    del server.requests[:]
    twin = ShardReader(ShardSet.open(server.url), cached)
    assert read_all(twin) == everything()
    assert {name for name, _ in server.requests} == {"manifest.json"}
    assert first.cache_misses == 4  # 1.8 and 1.2 MB in pieces of 1 MiB
    second = twin.counters()
    assert (second.bytes_read, second.cache_misses) == (0, 0)
    assert second.cache_hits > 50


def test_neighbouring_samples_are_fetched_ahead_in_one_request(server, www, uncached):
    reader = ShardReader(ShardSet.open(server.url), uncached)
    reader.prefetch([3, 4, 5, 6, 7, 20])
    found = [content(reader.read(number)) for number in (7, 3, 5, 20, 4, 6)]
    assert found == [expected(number) for number in (7, 3, 5, 20, 4, 6)]
    assert len(server.fetched("shard-000000.tar")) == 2
    assert server.fetched("shard-000001.tar") == []
    index = read_index(www / "shard-000000.idx")
    wanted = index.sample_offsets[8] - index.sample_offsets[3]
    wanted += index.sample_offsets[21] - index.sample_offsets[20]
    got = reader.counters().bytes_read - (www / "shard-000000.idx").stat().st_size
    assert got <= int(wanted)


def test_fetching_ahead_returns_at_once(server, uncached):
    reader = ShardReader(ShardSet.open(server.url), uncached)
    server.hold.clear()
    start = time.monotonic()
    reader.prefetch(range(50))
    assert time.monotonic() - start < 1.0
    server.hold.set()
    assert read_all(reader) == everything()


def test_fetching_ahead_of_local_shards_does_nothing(original, uncached):
    reader = ShardReader(original, uncached)
    reader.prefetch(range(50))
    assert reader.counters() == ReaderCounters()


def test_a_server_that_fails_at_first_is_tried_again(server, uncached):
    shard_set = ShardSet.open(server.url)
    reader = ShardReader(shard_set, uncached)
    reader.read(0)
    server.failures = 2
    assert content(reader.read(1)) == expected(1)
    assert reader.counters().retries == 2


@pytest.mark.parametrize("code", [503, 404, 403])
def test_a_server_that_goes_on_failing_is_a_named_shard_error(server, uncached, code):
    reader = ShardReader(ShardSet.open(server.url), uncached)
    reader.read(0)
    server.failures, server.failure_code = 10**6, code
    with pytest.raises(ShardError, match=r"shard-000000.tar: reading 000000-000001 at byte") as one:
        reader.read(1)
    reader.prefetch([2])
    with pytest.raises(ShardError, match="after 3 tries") as two:
        reader.read(2)
    assert SampleFault not in (type(one.value), type(two.value))
    with pytest.raises(ShardError, match=r"shard-000001.tar: cannot be opened"):
        reader.read(40)
    server.failures = 0
    assert read_all(reader) == everything()


def test_a_shard_missing_on_the_server_is_named(server, www, uncached):
    (www / "shard-000001.tar").unlink()
    reader = ShardReader(ShardSet.open(server.url), uncached)
    with pytest.raises(ShardError, match=r"shard-000001.tar: cannot be opened .* after 3 tries"):
        reader.read(40)
    assert reader.counters().retries == 2


def test_a_shard_truncated_on_the_server_gives_its_whole_samples(server, www, cached, caplog):
    index = read_index(www / "shard-000000.idx")
    os.truncate(www / "shard-000000.tar", int(index.sample_offsets[20]) + 5000)
    reader = ShardReader(ShardSet.open(server.url), cached)
    with caplog.at_level(logging.WARNING):
        reader.prefetch(range(50))
        assert content(reader.read(19)) == expected(19)
        with pytest.raises(SampleFault, match="000000-000020: cut off"):
            reader.read(20)
    assert "10 of 30 samples are cut off" in caplog.messages[0]


def test_a_broken_byte_on_the_server_is_a_fault_after_a_second_fetch(server, www, cached):
    index = read_index(www / "shard-000000.idx")
    part = index.parts_of(4, ("jpg",))[0]
    flip(www / "shard-000000.tar", part.start + 5)
    reader = ShardReader(ShardSet.open(server.url), cached)
    with pytest.raises(SampleFault, match=r"000000-000004\.jpg"):
        reader.read(4)
    assert len(server.fetched("shard-000000.tar")) >= 2
    assert content(reader.read(5)) == expected(5)


def test_a_broken_piece_of_the_cache_is_fetched_again(server, cached):
    reader = ShardReader(ShardSet.open(server.url), cached)
    read_all(reader)
    chunks = [path for path in (cached.cache_folder / "chunks").rglob("*-0*")]
    assert len(chunks) == 4
    for path in chunks:
        for place in range(100, path.stat().st_size, 5000):
            flip(path, place)
    indexes = [path for path in (cached.cache_folder / "chunks").rglob("*-index")]
    for path in indexes:
        flip(path, 100)
    assert len(indexes) == 2
    os.truncate(chunks[0], 50)
    twin = ShardReader(ShardSet.open(server.url), cached)
    assert read_all(twin) == everything()
    assert 4 <= twin.counters().cache_misses <= 7  # a sample across two pieces drops both
    assert read_all(ShardReader(ShardSet.open(server.url), cached)) == everything()


def test_a_small_cache_stays_within_its_bound(server, tmp_path):
    config = ReaderConfig(retry=QUICK, cache_folder=tmp_path / "cache", cache_bytes=2_200_000)
    reader = ShardReader(ShardSet.open(server.url), config)
    for _ in range(3):
        reader.prefetch(range(50))
        assert read_all(reader) == everything()
        files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) <= 2_200_000 + 100


def test_a_cache_too_small_for_one_piece_is_left_empty(server, tmp_path):
    config = ReaderConfig(retry=QUICK, cache_folder=tmp_path / "cache", cache_bytes=1000)
    reader = ShardReader(ShardSet.open(server.url), config)
    reader.prefetch([0, 1, 2])
    assert read_all(reader) == everything()


def test_a_full_disk_is_said_once_and_the_rest_is_read_uncached(server, cached, caplog):
    reader = ShardReader(ShardSet.open(server.url), cached)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow beyond a page
    try:
        with caplog.at_level(logging.WARNING):
            reader.prefetch(range(25))
            assert read_all(reader) == everything()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(caplog.messages) == 1
    assert "cannot be used (File too large)" in caplog.messages[0]


def test_a_stretch_of_a_shard_is_fetched_ahead_in_one_request(server, cached):
    reader = ShardReader(ShardSet.open(server.url), cached)
    reader.prefetch(range(1, 30))
    for sample_id in range(29, 0, -1):
        assert content(reader.read(sample_id)) == expected(sample_id)
    assert len(server.fetched("shard-000000.tar")) == 1
    assert reader.counters().cache_misses == 2


def test_workers_of_a_fork_server_share_what_they_fetch(server, cached):
    results = in_children(3, server.url, cached)
    assert [good for good, _ in results] == [50] * 3
    assert sum(counters.cache_misses for _, counters in results) == 4


def test_a_set_in_an_object_store_reads_as_on_disk(original, cached, object_store):
    object_store.create_bucket(Bucket="corpus")
    for path in original.folder.iterdir():
        object_store.upload_file(str(path), "corpus", f"sets/one/{path.name}")
    url = "s3://corpus/sets/one"
    shard_set = ShardSet.open(url)
    assert shard_set.digest == original.digest
    reader = ShardReader(shard_set, replace(cached, cache_folder=None))
    reader.prefetch(range(0, 50, 3))
    assert read_all(reader) == everything()
    reader.close()
    assert [good for good, _ in in_children(2, url, cached)] == [50, 50]
    object_store.delete_object(Bucket="corpus", Key="sets/one/shard-000001.tar")
    with pytest.raises(ShardError, match=rf"{url}/shard-000001.tar: cannot be opened"):
        ShardReader(shard_set, cached).read(40)
