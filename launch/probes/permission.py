"""Whether a run's probes may be submitted: by one at a time, and not after a cancel.

Who cancels a run forbids its probes, for a watch or the run itself would submit again what is taken
out of the queue; submitting or starting the run allows them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from data_sharding.durable import write_durably
from data_sharding.folder_lock import held_in_turn

LOCK_SECONDS = 120.0
"""For another one that submits: about as long as Slurm may take to answer it."""


@contextmanager
def in_turn(run: Path) -> Iterator[None]:
    """One at a time may submit probes of a run.

    Raises:
        ValueError: another one does all the while.
    """
    (run / "probes").mkdir(exist_ok=True)
    with held_in_turn(run / "probes" / "submit.lock", LOCK_SECONDS):
        yield


def forbid_probes(run: Path) -> None:
    """Have nobody submit the probes that a cancelled run still lacks.

    What is being submitted meanwhile is in the queue when this returns. A single probe that is
    asked for by name is submitted all the same.

    Raises:
        ValueError, OSError: another one submits all the while, or the mark cannot be written.
    """
    with in_turn(run):
        content = {"at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")}
        write_durably(_mark(run), json.dumps(content).encode())


def allow_probes(run: Path) -> None:
    """Lift the ban: the run was submitted, or starts."""
    _mark(run).unlink(missing_ok=True)


def refuse_forbidden(run: Path) -> None:
    """Whether probes may be submitted.

    Raises:
        ValueError: the run was cancelled and was not begun again.
    """
    path = _mark(run)
    if path.exists():
        at = json.loads(path.read_text(encoding="utf-8"))["at"]
        raise ValueError(
            f"{run}: cancelled at {at} UTC, so its probes are not submitted until the run is begun "
            f"again; remove {path} to have its checkpoints probed all the same"
        )


def _mark(run: Path) -> Path:
    return run / "probes" / "cancelled.json"
