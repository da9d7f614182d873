import errno
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from data_sharding.reading.config import Tally
from data_sharding.reading.tars import LocalAccess, LocalTar
from tiny_shards import QUICK, served, write_set

ENDS_WHILE_READING = """
import sys
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
reader = ShardReader(ShardSet.open(sys.argv[1]))
reader.read(0)
print("ready", flush=True)
sys.stdin.readline()
reader.prefetch([1, 2])
print("ends", flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class StaleAccess(LocalAccess):
    """Gives handles that cannot be read from for the first times, as NFS does."""

    stale: list[int]

    def open(self, path):
        if self.stale:
            self.stale.pop()
            return os.open(path, os.O_WRONLY)
        return LocalAccess.open(self, path)


def stale_tar(path, times):
    access = StaleAccess(
        retry=QUICK, tally=Tally(), make_room=lambda: False, stale=list(range(times))
    )
    return LocalTar(str(path), access), access.tally


def handles_of(path):
    """How many descriptors of this process are open on a file."""
    descriptors = os.listdir("/proc/self/fd")
    return sum(os.path.realpath(f"/proc/self/fd/{number}") == str(path) for number in descriptors)


def test_a_stale_handle_is_opened_anew(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(100)))
    tar, tally = stale_tar(tmp_path / "a.tar", 2)
    before = handles_of(tmp_path / "a.tar")
    assert tar.read(10, 20) == bytes(range(10, 20))
    assert tally.counts().retries == 2
    assert tally.counts().bytes_read == 10
    assert handles_of(tmp_path / "a.tar") == before
    tar.close()


def test_a_handle_that_stays_stale_fails_after_all_tries(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(100))
    tar, tally = stale_tar(tmp_path / "a.tar", 50)
    before = handles_of(tmp_path / "a.tar")
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        tar.read(10, 20)
    assert tally.counts().retries == QUICK.attempts - 1
    assert handles_of(tmp_path / "a.tar") == before
    tar.close()


def test_a_file_that_ends_early_gives_what_there_is(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(100)))
    tar, _ = stale_tar(tmp_path / "a.tar", 0)
    assert tar.read(90, 120) == bytes(range(90, 100))
    tar.close()


def test_a_process_ends_while_a_server_does_not_answer(tmp_path):
    shard_set = write_set(tmp_path / "set", sizes=(3,))
    with served(shard_set.folder) as server:
        command = [sys.executable, "-c", ENDS_WHILE_READING, server.url]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        server.hold.clear()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ends\n"
        assert process.wait(timeout=5.0) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.stdin.close()
        process.stdout.close()
        process.stderr.close()
