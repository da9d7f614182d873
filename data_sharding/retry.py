"""Bounded retries with exponential backoff for storage that fails now and then."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from data_sharding.storage import is_remote

LOGGER = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """How often a failed read is tried again."""

    attempts: int = 4
    """Tries in all; 1 never tries again."""

    first_wait_seconds: float = 0.5
    """Wait before the second try; doubles each time."""

    longest_wait_seconds: float = 30.0
    """No wait is longer."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"retry.attempts must be at least 1, got {self.attempts}")
        if not 0.0 <= self.first_wait_seconds <= self.longest_wait_seconds:
            raise ValueError("retry needs 0 <= first_wait_seconds <= longest_wait_seconds")


def patience_with(location: str) -> RetryConfig:
    """For a set's own small files: a local one is there or not, a server may be busy."""
    return RetryConfig() if is_remote(location) else RetryConfig(attempts=1)


def retrying(
    action: Callable[[], Result],
    what: str,
    config: RetryConfig,
    on_retry: Callable[[], None] = lambda: None,
) -> Result:
    """Calls `action` until it succeeds.

    Args:
        action: What fails with an OSError.
        what: Named in the warning of each retry, such as ``shard-000003.tar at byte 4096``.
        config: How often, how long.
        on_retry: Called before each new try, to count it.

    Raises:
        OSError: The last try's.
    """
    wait = config.first_wait_seconds
    for attempt in range(1, config.attempts):
        try:
            return action()
        except OSError as error:
            LOGGER.warning(
                "%s: try %d of %d failed (%s); again in %.1f s",
                what, attempt, config.attempts, error, wait,
            )  # fmt: skip
        on_retry()
        time.sleep(wait)
        wait = min(2 * wait, config.longest_wait_seconds)
    return action()
