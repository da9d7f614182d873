"""Curves that are known as a whole, and may change as a whole, for TensorBoard."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

EVENTS = "events.out.tfevents."
EMPTIED_KEPT = 50


def replace_curves(
    folder: Path, points: Sequence[tuple[int, Mapping[str, float]]], scratch: Path
) -> None:
    """Make a folder of event files show these scalars in order of steps, whatever it showed.

    All points are in one new file, under a later name than any before it, and its first event asks
    for the earlier ones to be forgotten. The older files are emptied and go only much later: a
    TensorBoard that is open reads its file to the end before it takes up the next, and one that
    has lost its file stays there.

    Args:
        folder: Of the event files; it is made where it is missing.
        points: A step and its scalars by tag, in any order.
        scratch: A folder of the same file system that TensorBoard does not read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = sorted(folder.glob(f"{EVENTS}*"))
    number = max((_number(path) for path in before), default=0) + 1
    with tempfile.TemporaryDirectory(prefix=".curves-", dir=scratch) as made:
        writer = SummaryWriter(made, purge_step=0)
        for step, values in sorted(points, key=lambda point: point[0]):
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)
        writer.close()
        [events] = Path(made).iterdir()
        events.rename(folder / f"{EVENTS}{number:010d}")
    for path in before:
        os.truncate(path, 0)
    for path in before[:-EMPTIED_KEPT]:
        path.unlink()


def _number(events: Path) -> int:
    found = re.fullmatch(r"\d+", events.name.removeprefix(EVENTS))
    return int(found[0]) if found else 0
