"""User errors become one line on stderr and exit code 2; bugs keep their traceback."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from data_sharding.schema import ShardError
from pretrain.checkpoint import CheckpointError

USER_ERRORS = (ValueError, ShardError, CheckpointError, OSError)


class DriftError(ValueError):
    """A resumed run's configuration has changed; the message is a list of several lines."""


def log_plainly() -> None:
    """Show warnings as a user reads them."""
    logging.basicConfig(level=logging.WARNING, format="triptych: %(message)s")


@contextmanager
def user_errors() -> Iterator[None]:
    """Print what the user can act on as one line and exit with 2."""
    try:
        yield
    except USER_ERRORS as error:
        message = str(error) if isinstance(error, DriftError) else " ".join(str(error).split())
        print(f"triptych: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("triptych: stopped", file=sys.stderr)
        sys.exit(130)
