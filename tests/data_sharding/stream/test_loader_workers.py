import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_sharding.decode import Decoder
from data_sharding.manifest import ShardSet
from data_sharding.stream import slots
from data_sharding.stream.loader import LoaderConfig, TripleLoader
from data_sharding.stream.order import OrderConfig, Slice
from tiny_corpus import FixedShapes

ORDER = OrderConfig(block_samples=3, window_blocks=2, lanes=2)
TESTS = Path(__file__).parents[2]

STREAM = """
import os, resource, signal, sys, time
sys.path[:0] = sys.argv[3].split(os.pathsep)
from data_sharding.decode import Decoder
from data_sharding.stream.loader import LoaderConfig, TripleLoader
from data_sharding.manifest import ShardSet
from data_sharding.stream.order import OrderConfig, Slice
from tiny_corpus import FixedShapes

if __name__ == "__main__":
    # A shell that starts the tests in the background has SIGINT ignored, and children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, files = sys.argv[1], int(sys.argv[2])
    if files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    loader = TripleLoader(
        ShardSet.open(folder, "train"),
        Decoder(__import__("pathlib").Path(folder) / "stats" / "tokenizer.json"),
        FixedShapes(),
        Slice(global_batch=4),
        LoaderConfig(num_workers=2, order=OrderConfig(block_samples=3, lanes=2)),
    )
    for number, batch in enumerate(loader.batches()):
        if number == 0:
            print("streaming", flush=True)
        time.sleep(0.01)
"""
"""A user's own script: streams until it is stopped."""


def loader(folder, transform, num_workers=1):
    config = LoaderConfig(num_workers=num_workers, order=ORDER)
    decoder = Decoder(folder / "stats" / "tokenizer.json")
    part = Slice(global_batch=4)
    return TripleLoader(ShardSet.open(folder, "train"), decoder, transform, part, config)


def members_of(group):
    """Processes of a process group that are alive."""
    alive = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                alive.append(int(entry.name))
    return alive


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


class DiesAt:
    """Ends its own process by a signal at a sample, as the kernel does to a worker."""

    def __init__(self, number):
        self.number = number

    def __call__(self, sample):
        if sample.sample_id % 5 == 4:
            os.kill(os.getpid(), self.number)
        return FixedShapes()(sample)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "was killed, as the system does when memory runs out"),
        (signal.SIGBUS, "/dev/shm is full; make it larger"),
    ],
)
def test_a_worker_that_dies_fails_the_stream_with_cause_and_advice(shards, number, message):
    source = loader(shards, DiesAt(number))
    with pytest.raises(OSError, match=rf"loader worker \d+ .*{message}") as caught:
        for _ in source.batches():
            pass
    assert "lower loader.num_workers" in str(caught.value)


class RaisesOSError:
    """Fails in a worker as a process without free descriptors does."""

    def __call__(self, sample):
        raise OSError(24, "Too many open files")


def test_too_many_open_files_are_explained(shards):
    with pytest.raises(OSError, match="ulimit -n"):
        next(loader(shards, RaisesOSError()).batches())


class Stumbles:
    """A transform with a bug."""

    def __call__(self, sample):
        raise RuntimeError("a bug in the transform")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bug_in_the_transform_keeps_its_traceback(shards, num_workers):
    with pytest.raises(RuntimeError, match="a bug in the transform"):
        next(loader(shards, Stumbles(), num_workers).batches())


def test_closing_ends_the_workers_at_once(shards):
    source = loader(shards, FixedShapes(), num_workers=2)
    stream = source.batches()
    next(stream)
    workers = [worker.pid for worker in _workers_of_this_process()]
    assert len(workers) == 2
    began = time.monotonic()
    source.close()
    assert time.monotonic() - began < 2.0
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 2.0)


def _workers_of_this_process():
    import multiprocessing

    return multiprocessing.active_children()


@contextmanager
def start_stream(folder, tmp_path, files=0):
    script = tmp_path / "stream.py"
    script.write_text(STREAM)
    roots = os.pathsep.join([str(Path(slots.__file__).parents[2]), str(TESTS)])
    process = subprocess.Popen(
        [sys.executable, script, folder, str(files), roots],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            for pid in members_of(process.pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "when", ["as the fork server starts", "during its imports", "as workers start", "streaming"]
)
def test_ctrl_c_ends_the_whole_group_soon_without_a_workers_traceback(shards, tmp_path, when):
    with start_stream(shards, tmp_path) as process:
        if when == "streaming":
            assert process.stdout.readline() == "streaming\n"
        else:
            # The script itself, Python's resource tracker, the fork server; then what it starts.
            started = 4 if when == "as workers start" else 3
            assert wait_until(lambda: len(members_of(process.pid)) >= started, 60.0)
        if when == "during its imports":
            time.sleep(0.3)
        began = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert time.monotonic() - began < 5.0
        assert wait_until(lambda: not members_of(process.pid), 5.0)
    assert said.count("Traceback") == 1, said
    assert said.rstrip().endswith("KeyboardInterrupt"), said


def test_workers_do_not_outlive_a_killed_training_process(shards, tmp_path):
    with start_stream(shards, tmp_path) as process:
        assert process.stdout.readline() == "streaming\n"
        process.kill()
        process.communicate(timeout=30)
        assert wait_until(lambda: not members_of(process.pid), 20.0)
