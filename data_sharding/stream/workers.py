"""Worker processes: how they start, how they end, and what their deaths mean."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from types import FrameType
from typing import Any, cast

from torch.utils.data import DataLoader

from data_sharding.schema import ShardError
from data_sharding.stream.fork_server import LEFT_TO_THE_LOADER, fork_server
from data_sharding.stream.slots import Delivery, Failure, Slot, SlotDataset

LESS = "lower loader.num_workers or loader.prefetch_batches"

DYING_SECONDS = 1.0

CAUSES = {
    -signal.SIGKILL: "was killed, as the system does when memory runs out (or the job's limit is "
    f"reached); {LESS}, or ask for more memory",
    -signal.SIGBUS: "could not write its batch to shared memory: /dev/shm is full; make it larger "
    f"(in a container: --shm-size), or {LESS}",
    -signal.SIGSEGV: "crashed (segmentation fault) in a native library; read the same samples with "
    "loader.num_workers = 0 under `python -X faulthandler` to see where",
}
"""Exit code of a worker -> what happened to it and what to do."""

SYMPTOMS = {
    "Too many open files": "too many open files: raise the limit (`ulimit -n 65536`), or "
    "lower loader.num_workers",
    "received 0 items of ancdata": "too many open files: raise the limit (`ulimit -n 65536`), or "
    "lower loader.num_workers",
    "shared memory": f"/dev/shm is full: make it larger (in a container: --shm-size), or {LESS}",
    "No space left on device": "/dev/shm is full: make it larger (in a container: --shm-size), or "
    + LESS,
}
"""Part of an error's text -> what happened and what to do."""


def deliveries(
    dataset: SlotDataset, slots: Iterator[list[Slot]], num_workers: int, prefetch_batches: int
) -> Generator[Delivery, None, None]:
    """Starts the workers at once, and gives their batches in the order of `slots`.

    The workers end when the stream ends, fails or is closed.

    Raises:
        ShardError: A shard cannot be had, or a sample is bad and may not be replaced.
        OSError: A worker died, or shared memory or file descriptors ran out; says what to do.
    """
    context = fork_server() if num_workers else None
    stream: Iterator[Delivery | Failure] = iter(())
    try:
        with _ctrl_c_waits():
            stream = iter(_loader(dataset, slots, num_workers, prefetch_batches, context))
            # At this process's end Python asks its children to end and waits; ours do not listen.
            Finalize(stream, _kill, args=(getattr(stream, "_workers", ()),), exitpriority=0)
    except KeyboardInterrupt:
        _stop_workers(stream)
        raise
    return _pass_on(stream)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Lets Ctrl-C take effect at the end of the block: half-started workers would print tracebacks.

    Python runs signal handlers in its main thread alone; elsewhere there is nothing to do.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[0])


def _pass_on(stream: Iterator[Delivery | Failure]) -> Generator[Delivery, None, None]:
    try:
        while True:
            try:
                item = next(stream)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                raise _explained(error, stream) from error
            if isinstance(item, Failure):
                raise ShardError(item.message)
            yield item
    finally:
        _stop_workers(stream)


def _stop_workers(stream: Iterator[Any]) -> None:
    """Ends the workers now, in whatever they are doing; they hold nothing that must be saved.

    DataLoader offers no public way. Left to the garbage collector, a failed stream's workers would
    live until its traceback is dropped; left to DataLoader, each may take 5 s.
    """
    _kill(getattr(stream, "_workers", ()))
    stop = getattr(stream, "_shutdown_workers", None)
    if stop is not None:
        stop()


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        worker.kill()


def _explained(error: Exception, stream: Iterator[Any]) -> Exception:
    """An OSError that says why the workers failed, or the error itself where it says enough."""
    for worker in getattr(stream, "_workers", ()):
        if isinstance(error, ConnectionError | EOFError):
            worker.join(DYING_SECONDS)  # its pipe is closed before its exit code is known
        if worker.exitcode:
            cause = CAUSES.get(worker.exitcode, f"ended with exit code {worker.exitcode}")
            return OSError(f"loader worker {worker.pid} {cause}")
    for symptom, cause in SYMPTOMS.items():
        if symptom in str(error):
            return OSError(f"the loader's workers cannot hand over their batches: {cause}")
    return error


def _loader(
    dataset: SlotDataset,
    slots: Iterator[list[Slot]],
    num_workers: int,
    prefetch_batches: int,
    context: BaseContext | None,
) -> DataLoader:
    """A DataLoader over given lists of slots."""
    return DataLoader(
        dataset,
        batch_sampler=_Slots(slots),
        num_workers=num_workers,
        collate_fn=cast(Any, _as_it_is),
        prefetch_factor=-(-prefetch_batches // num_workers) if num_workers else None,
        multiprocessing_context=context,
        worker_init_fn=_begin_worker,
    )


class _Slots:
    """The iterable that DataLoader wants as a batch sampler."""

    def __init__(self, slots: Iterator[list[Slot]]) -> None:
        self._slots = slots

    def __iter__(self) -> Iterator[list[Slot]]:
        return self._slots


def _as_it_is(delivery: Delivery | Failure) -> Delivery | Failure:
    """`SlotDataset` has collated already."""
    return delivery


def _begin_worker(worker: int) -> None:
    """Leaves signals to the loader, whoever started the fork server, and follows its death.

    DataLoader has set a handler of its own for SIGTERM.
    """
    for number in LEFT_TO_THE_LOADER:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker when the training process is gone, however that was killed.

    DataLoader's own watch is on the fork server, which lives as long as one of its workers does:
    each would wait for the other for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
