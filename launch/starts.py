"""The record of a run's starts, ``RUN/starts.jsonl``: who, with what, and whether it came further.

A start writes a line when its ranks have met, and another when it ends in order.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_sharding.durable import write_durably
from launch.preemption import EXIT_REFUSED, EXIT_REQUEUE
from pretrain.checkpoint import library_versions

STARTS_FILE = "starts.jsonl"
NO_FAILURES = (0, EXIT_REFUSED, EXIT_REQUEUE)
"""Exit codes of starts that do not count towards a crash loop. Of a Slurm job `EXIT_REQUEUE` does:
the job is queued again by itself, where a person who stops a run and starts it knows why."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """One start.

    Attributes:
        furthest: The last step that any start before it had reached.
        from_step: Where it went on.
        ranks: How many.
        drift: Options that differ from the checkpoint's.
        versions: Of libraries.
        at: When (UTC).
        host: Where rank 0 ran.
        job: Slurm's job id.
        code: Exit code; None where it did not end in order, or goes on.
    """

    furthest: int
    from_step: int
    ranks: int
    drift: Mapping[str, str]
    versions: Mapping[str, str] = field(default_factory=library_versions)
    at: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"))
    host: str = field(default_factory=socket.gethostname)
    job: str | None = field(default_factory=lambda: os.environ.get("SLURM_JOB_ID"))
    code: int | None = None


def read_starts(run: Path) -> list[Start]:
    """All starts of a run, in order; a line cut short by a crash is none."""
    path = run / STARTS_FILE
    starts = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            starts.append(Start(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return starts


def write_starts(run: Path, starts: list[Start]) -> None:
    """Replace the record, whole."""
    text = "".join(json.dumps(asdict(start)) + "\n" for start in starts)
    write_durably(run / STARTS_FILE, text.encode())


def furthest_step(run: Path, starts: list[Start], from_step: int) -> int:
    """The last step that any start has reached, as far as it was logged or saved."""
    path, logged = run / "metrics.jsonl", 0
    lines = path.read_text().splitlines() if path.exists() else []
    for line in reversed(lines):
        try:
            logged = int(json.loads(line)["step"])
            break
        except (ValueError, KeyError, TypeError):
            continue  # cut short by a kill
    return max(logged, from_step, *(start.furthest for start in starts), 0)


def starts_in_vain(starts: list[Start], furthest: int) -> list[Start]:
    """The last starts that came no step further, without those that `NO_FAILURES` excuses."""
    vain: list[Start] = []
    for start in reversed(starts):
        if start.furthest < furthest:
            break
        queued_again = start.code == EXIT_REQUEUE and start.job is not None
        if start.code not in NO_FAILURES or queued_again:
            vain.append(start)
    return vain[::-1]


def changed_versions(starts: list[Start], now: Start) -> list[str]:
    """Libraries that differ from the last start's: ``torch 2.14.1 -> 2.15.0``."""
    before: Mapping[str, Any] = starts[-1].versions if starts else now.versions
    return [
        f"{name} {before.get(name)} -> {new}"
        for name, new in now.versions.items()
        if before.get(name) != new
    ]
