import time

import pytest

from data_sharding.retry import RetryConfig, retrying
from tiny_shards import QUICK


class Failing:
    """Fails a number of times before it returns 7."""

    def __init__(self, failures):
        self.failures = failures

    def __call__(self):
        self.failures -= 1
        if self.failures >= 0:
            raise OSError("busy")
        return 7


def test_a_read_that_fails_now_and_then_succeeds_and_says_so(caplog):
    retries = []
    assert retrying(Failing(2), "shard at byte 9", QUICK, lambda: retries.append(1)) == 7
    assert len(retries) == 2
    assert "shard at byte 9: try 1 of 3 failed (busy)" in caplog.messages[0]


def test_the_number_of_tries_is_bounded():
    with pytest.raises(OSError, match="busy"):
        retrying(Failing(3), "x", QUICK)


def test_waits_double_up_to_a_limit():
    config = RetryConfig(attempts=5, first_wait_seconds=0.02, longest_wait_seconds=0.04)
    start = time.monotonic()
    retrying(Failing(4), "x", config)
    assert time.monotonic() - start >= 0.02 + 3 * 0.04


def test_other_errors_are_not_tried_again():
    calls = []

    def wrong():
        calls.append(1)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        retrying(wrong, "x", QUICK)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"first_wait_seconds": -1.0}, {"longest_wait_seconds": 0.1}],
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="retry"):
        RetryConfig(**wrong)
