import logging
import os
import shutil
import threading
import time

import pytest

from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ReaderConfig, ShardReader
from data_sharding.reading.watch import Slot
from data_sharding.retry import RetryConfig
from data_sharding.schema import ShardError
from tiny_shards import served, write_set


def wait_for(condition, seconds=10.0):
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def shard_set(tmp_path):
    return write_set(tmp_path / "set", sizes=(3,))


def test_a_read_that_lasts_warns_at_doubling_intervals(caplog):
    slot = Slot(10.0)
    slot.doing = ("shard-000003.tar", 4096)
    for second in range(100):
        slot.look(1000.0 + second)
    stuck = [record.args[-1] for record in caplog.records]
    assert stuck == [10.0, 20.0, 40.0, 80.0]
    assert "shard-000003.tar at byte 4096" in caplog.messages[0]


def test_many_short_reads_of_one_shard_are_not_stuck(caplog):
    slot = Slot(10.0)
    for second in range(100):
        slot.doing = ("shard-000003.tar", int("4096"))
        slot.look(float(second))
    slot.doing = None
    slot.look(500.0)
    slot.look(1000.0)
    assert not caplog.records


def test_a_shard_whose_opening_hangs_is_named_until_it_ends(shard_set, caplog):
    tar = shard_set.folder / "shard-000000.tar"
    tar.unlink()
    os.mkfifo(tar)  # opening it waits for a writer
    config = ReaderConfig(retry=RetryConfig(attempts=1), stuck_seconds=0.05)
    failures = []

    def read():
        try:
            ShardReader(shard_set, config).read(0)
        except ShardError as error:
            failures.append(str(error))

    thread = threading.Thread(target=read)
    with caplog.at_level(logging.WARNING):
        thread.start()
        wait_for(lambda: len(caplog.messages) >= 2)
        os.close(os.open(tar, os.O_WRONLY))
        thread.join(timeout=10.0)
    assert f"{tar} at byte 0: reading has been stuck" in caplog.messages[0]
    assert "is no regular file" in failures[0]


def test_a_server_that_does_not_answer_is_named_with_the_byte(shard_set, tmp_path, caplog):
    shutil.copytree(shard_set.folder, tmp_path / "www")
    with served(tmp_path / "www") as server:
        remote = ShardSet.open(server.url)
        reader = ShardReader(remote, ReaderConfig(stuck_seconds=0.05))
        reader.read(0)
        server.hold.clear()
        with caplog.at_level(logging.WARNING):
            reader.prefetch([2])
            wait_for(lambda: len(caplog.messages) >= 2)
        server.hold.set()
        reader.read(2)
        reader.close()
    place = f"{server.url}/shard-000000.tar at byte "
    assert caplog.messages[0].startswith(place)
    assert not caplog.messages[0].startswith(place + "0:")
