"""Scenes of the fault drill: slow, damaged and full disks."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from drill_looks import INTERVAL, LeftOutError, committed, expect, in_flight
from drill_run import Ground, Seen, Trial

from launch.preemption import EXIT_REFUSED, EXIT_REQUEUE
from launch.starts import read_starts
from pretrain.checkpoint import CheckpointError, OneRank, resume_point

SLOW_SECONDS = 0.5
"""For each of the three times that a rank opens its file of a checkpoint."""

DISK_MEGABYTES = 40


def slow_rank(ground: Ground) -> Seen:
    """A rank whose disk is slow, then one that is stopped while it writes."""
    ground.run_undisturbed()
    trial = Trial(ground, "slow")
    with trial.start("1", "slow", "open *rank-00001.part/*", str(SLOW_SECONDS)) as launched:
        second = launched.ranks()[1]
        launched.until(lambda: bool(in_flight(trial.run)), "a checkpoint in flight")
        began, steps = time.monotonic(), launched.steps()
        launched.until(lambda: bool(committed(trial.run)), "a checkpoint")
        took, meanwhile = time.monotonic() - began, launched.steps() - steps
        expect(took >= 2 * SLOW_SECONDS, f"it was committed {took:.2f} s after it was begun")
        expect(meanwhile > 0, "training waited for the slow rank")

        launched.until(lambda: bool(in_flight(trial.run)), "another in flight")
        os.kill(second, signal.SIGSTOP)
        before, latest = committed(trial.run), (trial.run / "checkpoints" / "latest").read_text()
        time.sleep(4 * SLOW_SECONDS)
        early = committed(trial.run) != before
        early |= (trial.run / "checkpoints" / "latest").read_text() != latest
        os.kill(second, signal.SIGCONT)
        expect(not early, "a checkpoint was committed that a stopped rank had not written")
        launched.until(lambda: len(committed(trial.run)) > len(before), "the end of it")
        expect((code := launched.stop()) == EXIT_REQUEUE, f"it ended with {code}")
    trial.go_on()
    trial.is_as_undisturbed()
    return Seen(
        times=2,
        seen=f"committed {took:.1f} s after it was begun, {meanwhile} steps done meanwhile",
        steps_lost=trial.steps_lost,
    )


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Half of it."""
    os.truncate(path, path.stat().st_size // 2)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "bit flip": flip,
    "truncation": truncate,
    "deletion": Path.unlink,
}


def every_file(ground: Ground) -> Seen:
    """What a start decides when any one file of the newest checkpoint is damaged in any way."""
    ground.run_undisturbed()
    whole = ground.undisturbed / "checkpoints"
    older, newest = (whole / f"step-{step:08d}" for step in committed(ground.undisturbed)[-2:])
    names = [path.relative_to(newest) for path in sorted(newest.rglob("*")) if path.is_file()]
    times, run = 0, ground.folder / "damaged"
    for name in names:
        for kind, damage in DAMAGES.items():
            for folder in (older, newest):
                shutil.copytree(folder, run / "checkpoints" / folder.name)
            damage(run / "checkpoints" / newest.name / name)
            found = resume_point(run, OneRank())
            expect(
                found is not None and found.folder.name == older.name,
                f"{kind} of {name}: it goes on from {found and found.folder.name}",
            )
            damage(run / "checkpoints" / older.name / name)
            expect(_refuses(run), f"{kind} of {name} in both: it was not refused")
            shutil.rmtree(run)
            times += 2
    return Seen(
        times=times,
        seen=f"{len(names)} files, each way: the older is used; where both are hurt, refused",
        steps_lost=[],
    )


def _refuses(run: Path) -> bool:
    try:
        resume_point(run, OneRank())
    except CheckpointError:
        return True
    return False


def damaged_starts(ground: Ground) -> Seen:
    """Whole starts of two ranks, after damage to a file of the newest checkpoint, then to all."""
    ground.run_undisturbed()
    trial = Trial(ground, "damage")
    trial.go_on(2 * INTERVAL + 1)
    files = ("engine/rank-00001.safetensors", "target/rank-00000.safetensors", "config.json")
    for name, damage in zip(files, DAMAGES.values(), strict=True):
        older, newest = committed(trial.run)[-2:]
        damage(trial.run / "checkpoints" / f"step-{newest:08d}" / name)
        with trial.start(goes_on_from=older) as launched:
            launched.until_steps(newest - older + 2)
            expect((code := launched.stop()) == EXIT_REQUEUE, f"{name}: it ended with {code}")
    trial.is_as_undisturbed()

    for folder in (trial.run / "checkpoints").glob("step-????????"):
        flip(folder / "config.json")
    before = sorted(trial.run.rglob("*")), read_starts(trial.run)
    with trial.start() as launched:
        launched.ends_with(EXIT_REFUSED, "all damaged, it")
    expect("checkpoints is whole" in trial.said, "all damaged: nobody was told why")
    after = sorted(trial.run.rglob("*")), read_starts(trial.run)
    expect(before == after, "all damaged: something was written or removed")
    return Seen(
        times=len(files) + 1,
        seen="the older is used, the same in the end; with all damaged exit 2, nothing touched",
        steps_lost=trial.steps_lost,
    )


def full_disk(ground: Ground) -> Seen:
    """Too little room before a checkpoint, none while it is written, none at a start."""
    ground.run_undisturbed()
    with small_disk(ground.folder / "disk") as disk:
        trial = Trial(ground, "full", folder=disk)
        filler = disk / "filler"
        with trial.start() as launched:
            launched.until(lambda: bool(committed(trial.run)), "a checkpoint")
            fill(filler, leave_bytes=1 << 20)
            launched.ends_with(EXIT_REFUSED, "no room, it")
        expect("too little room on the disk" in trial.said, "no room: nobody was told")
        _nothing_new(trial, [INTERVAL])

        filler.unlink()
        with trial.start("1", "slow", "os.mkdir *rank-00001.part/engine *", "3") as launched:
            launched.until(lambda: bool(in_flight(trial.run)), "one in flight", 0.002)
            fill(filler, leave_bytes=0)
            launched.ends_with(EXIT_REFUSED, "it fills up, and it")
        expect("No space left on device" in trial.said, "it fills up: nobody was told why")
        _nothing_new(trial, [INTERVAL])

        fill(filler, leave_bytes=0)
        with trial.start() as launched:
            expect((code := launched.ended()) != 0, f"full at the start: it ended with {code}")
        _nothing_new(trial, [INTERVAL])
        filler.unlink()
        began = time.monotonic()
        trial.go_on(intervals=2)
        seconds = time.monotonic() - began
        trial.is_as_undisturbed()
    return Seen(
        times=3,
        seen="exit 2, the older one stays, nothing half written; with room again it goes on",
        steps_lost=trial.steps_lost,
        seconds={"start with room again": [seconds]},
    )


def _nothing_new(trial: Trial, steps: list[int]) -> None:
    expect(committed(trial.run) == steps, f"committed are {committed(trial.run)}, not {steps}")
    expect(not in_flight(trial.run), "what was half written is still there")


def fill(filler: Path, leave_bytes: int) -> None:
    """Take the room of a disk."""
    with filler.open("wb", buffering=0) as file:
        left = shutil.disk_usage(filler.parent).free - leave_bytes
        while left > 0:
            try:
                left -= file.write(bytes(min(left, 1 << 16)))
            except OSError:
                return


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory of some megabytes."""
    folder.mkdir()
    size = f"size={DISK_MEGABYTES}m"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise LeftOutError(str(error)) from error
    if mounted.returncode:
        raise LeftOutError(f"mount: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
