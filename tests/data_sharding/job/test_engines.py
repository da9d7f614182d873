import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.job.engines import Engine, LocalEngine, RayEngine, SubmittedEngine
from data_sharding.job.folder import JobFolder
from data_sharding.job.task import count_tasks, run_task
from tiny_corpus import write_corpus

SMALL = ShardingConfig(samples_per_shard=2, rows_per_task=2, splits={"a": 0.5, "b": 0.5})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engines") / "corpus"
    write_corpus(folder, 9)
    return folder


@pytest.fixture(scope="module")
def digest(corpus):
    return shard_corpus(corpus, corpus.parent / "one", SMALL, LocalEngine(workers=1)).digest


class Unstarted:
    """Plans a job and stops before its first task."""

    def run(self, out, stage, numbers, on_done) -> None:
        raise RuntimeError("stopped")


def planned(corpus: Path, out: Path) -> Path:
    with pytest.raises(RuntimeError, match="stopped"):
        shard_corpus(corpus, out, SMALL, Unstarted())
    return out


def test_eight_processes_give_the_digest_of_one(corpus, digest, tmp_path):
    engine = LocalEngine(workers=8)
    assert isinstance(engine, Engine)
    assert shard_corpus(corpus, tmp_path / "eight", SMALL, engine).digest == digest


def test_a_task_that_fails_in_a_process_is_named_and_keeps_its_kind(corpus, tmp_path):
    out = planned(corpus, tmp_path / "out")
    JobFolder(out).rows_file(2).unlink()
    with pytest.raises(OSError, match=r"scan task 2: .*rows-000002.jsonl"):
        LocalEngine(workers=2).run(out, "scan", range(5), lambda number: None)


def kill_workers(stop: threading.Event, most: int) -> None:
    """Kills up to `most` children of the fork server, which are the workers."""
    killed = set()
    while not stop.wait(0.002) and len(killed) < most:
        for pid in grandchildren():
            if pid not in killed and len(killed) < most:
                killed.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def grandchildren() -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    return [pid for child in children.get(os.getpid(), []) for pid in children.get(child, [])]


def test_a_killed_worker_s_task_is_tried_again(corpus, digest, tmp_path, capfd):
    LocalEngine(workers=2).run(planned(corpus, tmp_path / "warm"), "scan", [0, 1], lambda n: None)
    stop = threading.Event()
    killer = threading.Thread(target=kill_workers, args=(stop, 1))
    killer.start()
    try:
        report = shard_corpus(corpus, tmp_path / "out", SMALL, LocalEngine(workers=2))
    finally:
        stop.set()
        killer.join()
    assert report.digest == digest
    assert "its process ended by signal 9; trying it again" in capfd.readouterr().err


def test_a_task_whose_process_always_dies_ends_the_job_with_its_name(corpus, tmp_path):
    out = planned(corpus, tmp_path / "out")
    stop = threading.Event()
    killer = threading.Thread(target=kill_workers, args=(stop, 1000))
    killer.start()
    try:
        with pytest.raises(OSError, match=r"scan task \d: its process ended by signal 9, 2 times"):
            LocalEngine(workers=2).run(out, "scan", range(5), lambda number: None)
    finally:
        stop.set()
        killer.join()


def test_two_processes_at_the_same_task_do_no_harm(corpus, digest, tmp_path):
    out = planned(corpus, tmp_path / "out")
    command = [sys.executable, "-m", "data_sharding.job.task", str(out), "scan", "0"]
    twins = [subprocess.Popen([*command, "--stride", "1"]) for _ in range(2)]
    assert [twin.wait(120) for twin in twins] == [0, 0]
    assert JobFolder(out).missing("scan", range(5)) == []
    assert shard_corpus(corpus, out, SMALL).digest == digest


def test_a_task_of_no_job_is_refused_in_one_line(tmp_path):
    command = [sys.executable, "-m", "data_sharding.job.task", str(tmp_path), "write", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "holds no unfinished sharding job" in done.stderr.strip().splitlines()[-1]


class ArrayInThread:
    """A scheduler that runs its elements one after the other, without those in `lost`."""

    def __init__(self, lost=()) -> None:
        self.lost, self.submitted = set(lost), []

    def __call__(self, command, name, elements, logs):
        self.submitted.append(list(elements))
        self.logs = logs
        logs.mkdir(exist_ok=True)
        self.thread = threading.Thread(target=self.work, args=(command, elements))
        self.thread.start()
        return self

    def work(self, command, elements) -> None:
        out, stage, stride = Path(command[4]), command[5], int(command[7])
        for element in elements:
            if element in self.lost:
                self.log_of(element).write_text("Killed\nout of memory\n")
                continue
            for number in range(element, count_tasks(out, stage), stride):
                run_task(out, stage, number)

    def is_active(self) -> bool:
        return self.thread.is_alive()

    def log_of(self, element) -> Path:
        return self.logs / f"{element}.err"


def test_an_array_smaller_than_the_tasks_does_them_in_strides(corpus, digest, tmp_path):
    scheduler = ArrayInThread()
    engine = SubmittedEngine(submit=scheduler, most_elements=2, poll_seconds=0.02)
    assert shard_corpus(corpus, tmp_path / "out", SMALL, engine).digest == digest
    assert scheduler.submitted == [[0, 1], [0, 1]]


def test_a_lost_element_is_reported_with_its_log_and_a_rerun_submits_it_alone(
    corpus, digest, tmp_path
):
    lossy = SubmittedEngine(submit=ArrayInThread(lost=[3]), poll_seconds=0.02, settle_seconds=0.05)
    message = r"1 scan tasks failed; scan task 3: Killed / out of memory \(log: .*3.err\)"
    with pytest.raises(OSError, match=message):
        shard_corpus(corpus, tmp_path / "out", SMALL, lossy)
    sound = ArrayInThread()
    engine = SubmittedEngine(submit=sound, poll_seconds=0.02)
    assert shard_corpus(corpus, tmp_path / "out", SMALL, engine).digest == digest
    assert sound.submitted[0] == [3]


def test_a_scheduler_that_stays_silent_is_given_up(corpus, tmp_path):
    class Silent(ArrayInThread):
        def is_active(self) -> bool:
            raise OSError("the queue does not answer")

    silent = Silent(lost=range(100))
    engine = SubmittedEngine(submit=silent, poll_seconds=0.02, silent_seconds=0.1)
    began = time.monotonic()
    with pytest.raises(OSError, match="does not answer"):
        shard_corpus(corpus, tmp_path / "out", SMALL, engine)
    assert time.monotonic() - began < 30


RAY = """
import sys
from pathlib import Path
from data_sharding.job.engines import RayEngine
from data_sharding.job import ShardingConfig, shard_corpus

config = ShardingConfig(samples_per_shard=2, rows_per_task=2, splits={"a": 0.5, "b": 0.5})
if __name__ == "__main__":
    corpus, out = map(Path, sys.argv[1:])
    print(shard_corpus(corpus, out, config, RayEngine(window=2)).digest)
"""


def test_ray_gives_the_digest_of_one_process(corpus, digest, tmp_path):
    pytest.importorskip("ray")
    script = tmp_path / "on_ray.py"
    script.write_text(RAY)
    command = [sys.executable, script, corpus, tmp_path / "out"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == digest


def test_a_missing_ray_says_how_to_install_it(corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'triptych\[ray\]'"):
        shard_corpus(corpus, tmp_path / "out", SMALL, RayEngine())
