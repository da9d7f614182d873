"""Tasks on this machine: in this process, or in a pool of processes."""

import multiprocessing
import os
import sys
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from data_sharding.job.engines.engine import OnDone, describe, failure, task_name
from data_sharding.job.folder import JobFolder, Stage
from data_sharding.job.task import run_task

TRIES = 2
"""A worker that is killed costs its task one try."""
SECONDS_TO_END = 10.0
PRELOADED = ["data_sharding.job.scan", "data_sharding.job.write"]
"""Imported once, before workers are forked; importing starts no thread."""


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """Runs tasks on this machine.

    Attributes:
        workers: Processes; 1 runs the tasks in this one. None is one for each core.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")

    def run(self, out: Path, stage: Stage, numbers: Sequence[int], on_done: OnDone) -> None:
        """See `Engine.run`."""
        missing = set(JobFolder(out).missing(stage, numbers))
        for number in numbers:
            if number not in missing:
                on_done(number)
        workers = min(self.workers or len(os.sched_getaffinity(0)), len(missing))
        if workers > 1:
            _run_in_pool(_Pool(out=out, stage=stage), sorted(missing), workers, on_done)
            return
        for number in sorted(missing):
            try:
                run_task(out, stage, number)
            except Exception as error:
                raise failure(stage, number, describe(error)) from error
            on_done(number)


@dataclass
class _Worker:
    """One process and the task it is at."""

    process: BaseProcess
    connection: Connection
    task: int


@dataclass(kw_only=True)
class _Pool:
    """Processes at work."""

    out: Path
    stage: Stage
    workers: list[_Worker] = field(default_factory=list)

    def start(self, task: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        here, there = context.Pipe()
        arguments = (there, self.out, self.stage)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        there.close()
        here.send(task)
        self.workers.append(_Worker(process=process, connection=here, task=task))

    def end(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join(SECONDS_TO_END)
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
        self.workers.remove(worker)

    def kill(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in list(self.workers):
            self.end(worker)


def _run_in_pool(pool: _Pool, numbers: Sequence[int], workers: int, on_done: OnDone) -> None:
    waiting, tries = deque(numbers), Counter[int]()
    try:
        while waiting or pool.workers:
            while waiting and len(pool.workers) < workers:
                pool.start(waiting.popleft())
            ready = wait([worker.connection for worker in pool.workers])
            for worker in [each for each in pool.workers if each.connection in ready]:
                if _succeeded(pool, worker, tries):
                    on_done(worker.task)
                else:
                    waiting.appendleft(worker.task)
                    continue
                if waiting:
                    worker.task = waiting.popleft()
                    worker.connection.send(worker.task)
                else:
                    pool.end(worker)
    finally:
        pool.kill()


def _succeeded(pool: _Pool, worker: _Worker, tries: Counter[int]) -> bool:
    """Whether a worker has done its task; False where it was killed and may be tried again."""
    try:
        answer = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        pool.end(worker)
        tries[worker.task] += 1
        said = f"{task_name(pool.stage, worker.task)}: its process ended {_how(worker.process)}"
        if tries[worker.task] >= TRIES:
            raise OSError(
                f"{said}, {TRIES} times; is there enough memory? Fewer workers need less"
            ) from None
        print(f"{said}; trying it again", file=sys.stderr)
        return False
    if answer is not None:
        raise failure(pool.stage, worker.task, answer)
    return True


def _how(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"by signal {-code}" if code < 0 else f"with status {code}"


def _work(connection: Connection, out: Path, stage: Stage) -> None:
    """A worker's life: task numbers in; None or what went wrong out."""
    torch.set_num_threads(1)
    while True:
        try:
            number = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            run_task(out, stage, number)
            answer = None
        except Exception as error:
            answer = describe(error)
        connection.send(answer)
