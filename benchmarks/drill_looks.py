"""What a run has left on disk and among processes, as the fault drill looks at it."""

import json
import math
import os
from pathlib import Path

import torch

from pretrain.checkpoint import open_checkpoint
from tiny import losses, whole_state

INTERVAL = 4
"""Steps from checkpoint to checkpoint."""


class SurpriseError(Exception):
    """Something else was seen than was expected."""


class LeftOutError(Exception):
    """A scene cannot be played on this machine."""


def expect(holds: bool, seen: str) -> None:
    """Go on only where something is as expected."""
    if not holds:
        raise SurpriseError(seen)


def same_losses(run: Path, other: Path, tolerance: float = 0.0, exact_until: int = 0) -> None:
    """Every step has been done, and its loss is that of another run.

    Args:
        run: One.
        other: The other, of at least as many steps.
        tolerance: Relative; 0 is bitwise.
        exact_until: No tolerance up to this step.
    """
    mine, theirs = losses(run), losses(other)
    expect(list(mine) == list(range(1, len(mine) + 1)), "a step is missing in the metrics")
    for step, loss in mine.items():
        allowed = tolerance if step > exact_until else 0.0
        same = math.isclose(loss, theirs[step], rel_tol=allowed)
        expect(same, f"step {step} has loss {loss!r}, undisturbed {theirs[step]!r}")


def same_state(run: Path, other: Path) -> None:
    """The newest checkpoint that both have at a regular step holds the same in every bit."""
    step = max(s for s in set(committed(run)) & set(committed(other)))
    expect(step >= last_step(run) - INTERVAL, f"nothing after step {step} to compare")
    name = f"step-{step:08d}"
    folders = [folder / "checkpoints" / name for folder in (run, other)]
    mine, theirs = (whole_state(open_checkpoint(folder).folder) for folder in folders)
    expect(mine.keys() == theirs.keys(), f"{name} has other tensors")
    for key, value in mine.items():
        expect(torch.equal(value, theirs[key]), f"{name}: {'/'.join(key)} differs")


def committed(run: Path) -> list[int]:
    """Steps that have a checkpoint with COMPLETE."""
    found = (run / "checkpoints").glob("step-????????/COMPLETE")
    return sorted(int(path.parent.name.removeprefix("step-")) for path in found)


def in_flight(run: Path) -> list[Path]:
    """Temporary folders: checkpoints that are being written, or were."""
    return list((run / "checkpoints").glob("step-*.tmp-*"))


def last_step(run: Path) -> int:
    """The last that is in the metrics."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        # The last line may be half written.
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else 0


def processes_of(run: Path) -> list[int]:
    """Processes that name a run in their command line: its launcher, ranks and watchers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(run).encode() in words and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


def metrics_inode(run: Path) -> int | None:
    """Of the metrics: each start that comes to train replaces the file."""
    path = run / "metrics.jsonl"
    return path.stat().st_ino if path.exists() else None
