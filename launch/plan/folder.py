"""The run folder: shared by the nodes, writable, on what disk, and whether it is free."""

import os
import tempfile
import time
from pathlib import Path

from eval.tasks import load_task
from launch.plan.chapter import Chapter, gigabytes
from launch.plan.checkpoints import Disk, free_bytes, nearest_folder
from launch.run_config import RunConfig, check_run_folder
from launch.start import refuse_node_local

TRIAL_BYTES = 64_000_000
"""Written and synced to see whether, and how fast, the folder takes checkpoints."""

NODE_LOCAL = ("tmpfs", "ramfs", "overlay", "squashfs", "iso9660")
"""Kinds of file system that no other node sees."""

MOUNTS = Path("/proc/self/mounts")


def folder_chapter(config: RunConfig, resume: bool, fresh: bool) -> tuple[Chapter, Disk | None]:
    """Look at the run folder; a trial file is written there and removed."""
    chapter = Chapter("Run folder")
    place = nearest_folder(config.run)
    there = "there already" if place == config.run.absolute() else f"to be made below {place}"
    kind = file_system(place)
    chapter.tell("folder", f"{config.run}, {there}; {kind or 'unknown file system'}")
    disk = _try_to_write(chapter, place)
    many_nodes = config.cluster == "slurm" and config.slurm.nodes > 1
    chapter.check(lambda: refuse_node_local(config))
    if many_nodes and kind in NODE_LOCAL and not chapter.findings:
        chapter.find(
            f"{config.run} lies on {kind}, which each node has for itself; give --run a folder "
            f"that all {config.slurm.nodes} nodes share"
        )
    chapter.check(lambda: check_run_folder(config, resume, fresh))
    for task in sorted({*config.probe_tasks, config.online_knn} - {None}):
        chapter.check(lambda task=task: load_task(task))
    return chapter, disk


def _try_to_write(chapter: Chapter, place: Path) -> Disk | None:
    free = free_bytes(place)
    chapter.tell("free", gigabytes(free))
    try:
        rate = write_rate(place, min(TRIAL_BYTES, free // 10))
    except OSError as error:
        chapter.find(
            f"{place}: cannot be written to ({error.strerror or error}); give --run another "
            "folder, or have this one made yours"
        )
        return None
    return Disk(free_bytes=free, write_bytes_per_second=rate)


def write_rate(folder: Path, size: int) -> float | None:
    """Bytes a second that one process writes and syncs there; None where there is no room.

    Raises:
        OSError: nothing can be written.
    """
    content = os.urandom(max(size, 1))
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".triptych-plan-") as file:
        began = time.monotonic()
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
        seconds = time.monotonic() - began
    return size / seconds if size else None


def file_system(folder: Path) -> str | None:
    """Kind of the file system that a folder lies on, such as ``nfs4``, ``lustre`` or ``tmpfs``."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return None
    found, longest = None, -1
    for line in lines:
        _, point, kind = line.split()[:3]
        point = Path(point.replace("\\040", " "))
        # Of two mounts on one point, the later one is seen.
        if folder.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = kind, len(point.parts)
    return found
