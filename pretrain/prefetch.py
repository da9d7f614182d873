"""A rank's next batch goes to its GPU while the step of this one runs."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch

from data_sharding.batch import TripleBatch

MEDIA = ("token_ids", "token_mask", "image", "waveform")

Given = TypeVar("Given")
Made = TypeVar("Made")


def media_to(batch: TripleBatch, device: torch.device) -> TripleBatch:
    """The batch with its texts, pictures and clips on a device; itself where they are there.

    Sample ids, epochs and what is present stay: views are drawn from them on the CPU, and asking
    a GPU for them would make the rank wait.
    """
    moved = {name: getattr(batch, name).to(device, non_blocking=True) for name in MEDIA}
    if all(value is getattr(batch, name) for name, value in moved.items()):
        return batch
    return replace(batch, **moved)


def prefetched(batches: Iterator[TripleBatch], device: torch.device) -> Iterator[TripleBatch]:
    """The same batches, their media on ``device``; on a CPU, just the same batches.

    A thread copies each batch to page-locked memory and on to the GPU, on a stream of its own,
    while the batch before it is trained on. So one batch more is taken
    than was given out, and the loader has told of its stand-ins before it is trained on.
    """
    if device.type == "cpu":
        return batches
    return map(_arrived, one_ahead(batches, _Sender(device)))


def one_ahead(given: Iterator[Given], make: Callable[[Given], Made]) -> Iterator[Made]:
    """What is made of each item, by a thread, while the result before it is in use.

    What ``given`` or ``make`` raises is raised here in its item's place, after what came before.

    Args:
        given: Is asked by the caller's own thread.
        make: Called in the order of the items.
    """
    failures: list[Exception] = []

    def until_failure() -> Iterator[Given]:
        try:
            yield from given
        except Exception as error:
            failures.append(error)

    coming: Future[Made] | None = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        for item in until_failure():
            ready, coming = coming, thread.submit(make, item)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()
    for failure in failures:
        raise failure


class _Sender:
    """Begins a batch's copy to a GPU.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def __call__(self, batch: TripleBatch) -> tuple[TripleBatch, torch.cuda.Event]:
        """The batch there, and what happens when it has arrived."""
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            sent = media_to(batch.pin_memory(), self._device)
            there = torch.cuda.Event()
            there.record(self._stream)
            return sent, there


def _arrived(sent: tuple[TripleBatch, torch.cuda.Event]) -> TripleBatch:
    """A batch that what is queued from now on may read."""
    batch, there = sent
    stream = torch.cuda.current_stream(batch.image.device)
    stream.wait_event(there)
    for name in MEDIA:
        getattr(batch, name).record_stream(stream)  # or its memory would be given away too early
    return batch
