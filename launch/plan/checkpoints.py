"""Size of checkpoints, the room for them, how often they come and how long one takes."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from launch.plan.chapter import Chapter, duration, gigabytes
from launch.plan.speed import Pace
from launch.run_config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Disk:
    """Where the run folder lies, or will.

    Attributes:
        free_bytes: Room.
        write_bytes_per_second: As one process just wrote there; None where it could not.
    """

    free_bytes: int
    write_bytes_per_second: float | None


def nearest_folder(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def free_bytes(folder: Path) -> int:
    """Room where a folder lies, or will."""
    return shutil.disk_usage(nearest_folder(folder)).free


def checkpoint_chapter(
    config: RunConfig, size: int, disk: Disk | None, pace: Pace | None
) -> Chapter:
    """What checkpoints take of the disk and of the time.

    Args:
        config: The run.
        size: Bytes of one checkpoint.
        disk: Of the run folder, where it can be written to.
        pace: Of a step, where it is known.
    """
    chapter = Chapter("Checkpoints")
    pretrain, every = config.pretrain, config.pretrain.checkpoint_every_steps
    in_all = math.ceil(pretrain.total_steps / every)
    kept = in_all if pretrain.keep_checkpoints is None else min(in_all, pretrain.keep_checkpoints)
    needed = size * (kept + (kept < in_all))  # the newest is whole before the oldest goes
    how = "all" if pretrain.keep_checkpoints is None else "the newest"
    chapter.tell(
        "size",
        f"{gigabytes(size)} each; {in_all:,} in the run, {how} {kept:,} kept: "
        f"{gigabytes(needed)} at most",
    )
    interval = every * pace.step_seconds if pace else None
    about = f", about {duration(interval)}" if interval else ""
    chapter.tell("interval", f"{every:,} steps{about}")
    if disk is not None:
        _check_room(chapter, config, needed, disk)
    if interval is not None and config.cluster == "slurm":
        _check_interval(chapter, config, interval)
    if disk is not None and disk.write_bytes_per_second:
        save = size / disk.write_bytes_per_second
        chapter.tell(
            "save",
            f"{duration(save)} at the {gigabytes(disk.write_bytes_per_second)}/s that one process "
            f"wrote there just now; written {pretrain.checkpoint.write}",
        )
        if config.cluster == "slurm":
            _check_lead(chapter, config, save, pace.step_seconds if pace else 0.0)
    return chapter


def _check_room(chapter: Chapter, config: RunConfig, needed: int, disk: Disk) -> None:
    chapter.tell("free there", gigabytes(disk.free_bytes))
    if needed > disk.free_bytes:
        chapter.find(
            f"{config.run}: checkpoints will take {gigabytes(needed)} and "
            f"{gigabytes(disk.free_bytes)} are free: make room, or set "
            "pretrain.keep_checkpoints (2 or more)"
        )


def _check_interval(chapter: Chapter, config: RunConfig, interval: float) -> None:
    limit = 60.0 * config.slurm.walltime_minutes
    if interval > limit:
        chapter.find(
            f"a checkpoint every {duration(interval)} and a time limit of {duration(limit)}: a "
            "node that fails would cost a whole job; set a smaller pretrain.checkpoint_every_steps"
        )


def _check_lead(chapter: Chapter, config: RunConfig, save: float, step: float) -> None:
    """Saving may wait for the checkpoint before it, and for the step that is going on."""
    needed, lead = 2 * save + step, config.slurm.save_seconds
    chapter.tell(
        "before the limit",
        f"told {duration(lead)} before it (slurm.save_seconds); two saves and a step take "
        f"{duration(needed)}",
    )
    if needed > lead:
        chapter.find(
            f"slurm.save_seconds {lead} is less than two saves and a step ({duration(needed)}): "
            f"set it to {math.ceil(needed / 60) * 60}"
        )
