import math
import os

import pytest

from data_sharding.parallel import BYTES_PER_PROCESS, fitting_workers, in_processes


def test_results_come_in_the_order_of_the_items_from_other_processes():
    assert list(in_processes(math.factorial, range(40), 2, "counting")) == [
        math.factorial(number) for number in range(40)
    ]


def test_one_item_or_one_worker_stays_in_this_process():
    # A lambda could not travel.
    assert list(in_processes(lambda item: os.getpid(), [1, 2], 1, "asking")) == 2 * [os.getpid()]
    assert list(in_processes(lambda item: os.getpid(), [1], 8, "asking")) == [os.getpid()]


def test_an_error_in_a_process_reaches_the_caller():
    with pytest.raises(ValueError, match="factorial"):
        list(in_processes(math.factorial, [3, -1, 4], 2, "counting"))


def test_small_work_starts_no_processes():
    assert fitting_workers(BYTES_PER_PROCESS - 1) == 1
    assert fitting_workers(1 << 50) == len(os.sched_getaffinity(0))
