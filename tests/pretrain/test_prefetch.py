import threading
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from data_sharding.batch import TripleBatch
from pretrain.prefetch import MEDIA, media_to, one_ahead, prefetched

CPU = torch.device("cpu")


def a_batch(num=2):
    return TripleBatch(
        keys=tuple(map(str, range(num))),
        sample_ids=torch.arange(num),
        epochs=torch.zeros(num, dtype=torch.int64),
        token_ids=torch.zeros(num, 2, 3, dtype=torch.int64),
        token_mask=torch.zeros(num, 2, 3, dtype=torch.bool),
        image=torch.zeros(num, 2, 3, 4, 4, dtype=torch.uint8),
        waveform=torch.zeros(num, 2, 5),
        present=torch.ones(num, 3, dtype=torch.bool),
        valid=torch.ones(num, dtype=torch.bool),
    )


def test_what_is_heavy_goes_to_the_device_and_what_numbers_the_samples_stays():
    batch = a_batch()
    there = media_to(batch, torch.device("meta"))
    devices = {
        field.name: getattr(there, field.name).device.type
        for field in fields(there)
        if isinstance(getattr(there, field.name), Tensor)
    }
    assert {name for name, device in devices.items() if device == "meta"} == set(MEDIA)
    assert {name for name, device in devices.items() if device == "cpu"} == {
        "sample_ids", "epochs", "present", "valid",
    }  # fmt: skip
    assert media_to(batch, CPU) is batch


def test_without_a_gpu_batches_are_given_as_they_come():
    batches = iter([a_batch(), a_batch()])
    assert prefetched(batches, CPU) is batches


def test_the_next_is_made_by_a_thread_while_this_one_is_in_use():
    made = {number: threading.Event() for number in range(4)}
    makers = set()

    def make(number):
        makers.add(threading.current_thread().name)
        made[number].set()
        return number * 10

    found = []
    for value in one_ahead(iter(range(4)), make):
        found.append(value)
        after = value // 10 + 1
        assert after == 4 or made[after].wait(timeout=60)
        assert after > 2 or not made[after + 1].is_set()  # one ahead, and no more
    assert found == [0, 10, 20, 30]
    assert threading.current_thread().name not in makers


@pytest.mark.parametrize("items", [[], [7]])
def test_a_stream_that_ends_gives_all_that_it_had(items):
    assert list(one_ahead(iter(items), lambda item: item)) == items


def test_an_error_is_raised_in_the_place_of_its_item():
    def make(number):
        if number == 2:
            raise OSError("no more memory can be locked")
        return number

    seen = []
    with pytest.raises(OSError, match="can be locked"):
        seen.extend(one_ahead(iter(range(5)), make))
    assert seen == [0, 1]


def test_no_thread_is_left_behind_when_the_rest_is_not_wanted():
    stream = one_ahead(iter(range(100)), lambda number: number)
    assert next(stream) == 0
    assert any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    stream.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_arrive_on_the_gpu_as_they_were():
    batches = [a_batch(num) for num in (2, 3, 4)]
    for number, batch in enumerate(batches):
        batch.waveform.fill_(number)
    sent = list(prefetched(iter(batches), torch.device("cuda", 0)))
    for given, arrived in zip(batches, sent, strict=True):
        assert arrived.sample_ids.device == CPU
        assert all(getattr(arrived, name).is_cuda for name in MEDIA)
        assert torch.equal(arrived.waveform.cpu(), given.waveform)


def test_what_was_read_before_a_failure_is_still_given_out():
    def failing():
        yield from (1, 2, 3)
        raise OSError("the server is gone")

    coming = one_ahead(failing(), lambda number: number)
    assert [next(coming) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(OSError, match="the server is gone"):
        next(coming)
