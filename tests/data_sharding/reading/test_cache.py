import errno
import fcntl
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from data_sharding.reading.cache import NodeCache

SHA = "ab" * 32
HAMMER = """
import random, sys, pathlib
from data_sharding.reading.cache import NodeCache
folder, bound, seed, rounds = sys.argv[1], *map(int, sys.argv[2:])
cache = NodeCache(pathlib.Path(folder), bound)
rng = random.Random(seed)
print("ready", flush=True)
wrong = hits = 0
for _ in range(rounds):
    number = rng.randrange(64)
    name = f"{number:02x}" * 32 + "-00000001"
    expected = bytes([number]) * (10_000 + 100 * number)
    found = cache.read(name)
    hits += found is not None
    wrong += found is not None and found != expected
    if found is None:
        cache.store(name, expected)
    if rng.random() < 0.02:
        cache.drop(name)
print(wrong, hits, cache.storing)
"""


def name_of(number):
    return f"{SHA}-{number:08d}"


def held(folder):
    """Bytes that all files of a cache take, but for its own few bytes of account.

    Counted under the cache's lock: files that come and go would be counted twice.
    """
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = [path for path in folder.rglob("*") if path.is_file() and path.name != "usage"]
        return sum(path.stat().st_size for path in files)


def hammer(folder, bound, seed, rounds):
    return subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(folder), str(bound), str(seed), str(rounds)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_piece_is_read_back_whole_and_in_part(tmp_path):
    cache = NodeCache(tmp_path / "cache", 1000)
    assert cache.read(name_of(1)) is None
    assert cache.store(name_of(1), b"0123456789")
    assert cache.read(name_of(1)) == b"0123456789"
    assert cache.read(name_of(1), 2, 5) == b"234"
    assert NodeCache(tmp_path / "cache", 1000).has(name_of(1))
    cache.drop(name_of(1))
    assert not cache.has(name_of(1))


def test_what_was_unused_for_longest_goes_first(tmp_path):
    cache = NodeCache(tmp_path, 100)
    for number in range(10):
        cache.store(name_of(number), bytes(10))
    os.utime(tmp_path / "chunks" / SHA[:2] / name_of(3), ns=(1, 1))
    for number in (0, 1, 2):
        cache.read(name_of(number))
    cache.store(name_of(10), bytes(10))
    kept = [number for number in range(11) if cache.has(name_of(number))]
    assert {0, 1, 2, 10} <= set(kept)
    assert 3 not in kept


def test_a_piece_larger_than_the_bound_is_not_kept(tmp_path):
    cache = NodeCache(tmp_path, 100)
    assert not cache.store(name_of(1), bytes(101))
    assert cache.storing


def test_eight_processes_at_once_never_exceed_the_bound_and_read_only_whole_pieces(tmp_path):
    bound = 300_000
    crowd = [hammer(tmp_path, bound, seed, 600) for seed in range(8)]
    most = 0
    while any(process.poll() is None for process in crowd):
        most = max(most, held(tmp_path))
    results = [process.communicate(timeout=30)[0].split() for process in crowd]
    assert {(wrong, storing) for _, wrong, _, storing in results} == {("0", "True")}
    assert sum(int(hits) for _, _, hits, _ in results) > 100
    assert bound // 2 < most <= bound
    assert held(tmp_path) <= bound


def test_a_process_killed_at_any_moment_leaves_no_half_piece(tmp_path):
    bound = 300_000
    rng = random.Random(5)
    for seed in range(6):
        process = hammer(tmp_path, bound, seed, 100_000)
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(rng.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
    (tmp_path / "new").write_bytes(bytes(5000))
    survivor = hammer(tmp_path, bound, 99, 600)
    wrong, hits, storing = survivor.communicate(timeout=30)[0].split()[1:]
    assert (wrong, storing) == ("0", "True")
    assert int(hits) > 0
    assert not (tmp_path / "new").exists()
    assert held(tmp_path) <= bound
    assert int((tmp_path / "usage").read_text()) >= held(tmp_path)


def test_an_account_that_was_lost_is_counted_anew(tmp_path):
    cache = NodeCache(tmp_path, 100)
    for number in range(10):
        cache.store(name_of(number), bytes(10))
    (tmp_path / "usage").write_bytes(b"\0\0\0")
    cache.store(name_of(11), bytes(10))
    assert held(tmp_path) <= 100
    assert int((tmp_path / "usage").read_text()) == held(tmp_path)


def test_a_full_disk_is_said_once_and_reading_goes_on(tmp_path, caplog):
    cache = NodeCache(tmp_path, 10**9)
    cache.store(name_of(1), b"kept")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # no file may grow beyond a page
    try:
        with caplog.at_level(logging.WARNING):
            stored = [cache.store(name_of(number), bytes(100_000)) for number in (2, 3, 4)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert stored == [False] * 3
    assert not cache.storing
    assert len(caplog.messages) == 1
    assert os.strerror(errno.EFBIG) in caplog.messages[0]
    assert cache.read(name_of(1)) == b"kept"
    assert not (tmp_path / "new").exists()


def test_a_cache_that_somebody_deletes_is_done_without(tmp_path, caplog):
    cache = NodeCache(tmp_path / "cache", 1000)
    shutil.rmtree(tmp_path / "cache")
    with cache.filling(name_of(1)):
        assert not cache.store(name_of(1), b"x")
    assert cache.read(name_of(1)) is None
    cache.drop(name_of(1))
    assert len(caplog.messages) == 1


def test_a_name_from_data_is_never_a_path(tmp_path):
    cache = NodeCache(tmp_path, 100)
    for name in ("../../etc/passwd", f"{SHA}-1/../x", "", f"{SHA}-index\n"):
        with pytest.raises(ValueError, match="is no name of a cached piece"):
            cache.store(name, b"x")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="choose another cache_folder"):
        NodeCache(tmp_path / "file" / "cache", 100)
