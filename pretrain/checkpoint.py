"""Checkpoints: written whole or not at all, and read only when whole.

A checkpoint is a folder ``step-00000200`` with a COMPLETE file that holds the sha256 of
every other file. Everything is written under a temporary name; COMPLETE comes last and the
rename after it. Reading needs no DeepSpeed.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
COMPLETE = "COMPLETE"
PROGRESS = "progress.json"


class CheckpointError(Exception):
    """A folder is no whole checkpoint, or one could not be written."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: all the state of schedules and of the sample order."""

    step: int = 0
    samples_consumed: int = 0

    def advanced(self, global_samples: int) -> "Progress":
        """One optimizer step further."""
        return Progress(self.step + 1, self.samples_consumed + global_samples)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path
    progress: Progress
    world_size: int
    digest: str

    @property
    def step(self) -> int:
        """Optimizer steps behind these weights."""
        return self.progress.step

    @property
    def samples_consumed(self) -> int:
        """Samples behind these weights."""
        return self.progress.samples_consumed

    @property
    def backbone(self) -> Path:
        """The folder that `Backbone.load` reads: the target network's backbone."""
        return self.folder / "backbone"

    @property
    def run(self) -> Path:
        """The run folder that it belongs to."""
        return self.folder.parent.parent

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the run."""
        return json.loads((self.folder / "config.json").read_text())


@runtime_checkable
class Ranks(Protocol):
    """The ranks that write together; `Engine` is one."""

    rank: int
    world_size: int

    def agree(self, ok: bool) -> bool:
        """Whether ``ok`` holds on every rank. Collective."""
        ...


def write_checkpoint(
    run: Path, progress: Progress, parts: Sequence[Callable[[Path], None]], ranks: Ranks
) -> Path:
    """Write one checkpoint from all ranks; whole under its name, or not at all. Collective.

    Args:
        run: Run folder, shared by the ranks.
        progress: Where the run is.
        parts: Each is called on every rank with the temporary folder and writes its files.
        ranks: Who writes.

    Raises:
        CheckpointError: any rank failed; the same on every rank, and nothing is left behind.
    """
    folder = run / "checkpoints" / f"step-{progress.step:08d}"
    temporary = folder.with_name(folder.name + ".tmp")
    stages: list[Callable[[], None]] = [
        _on_first(ranks, lambda: _prepare(folder, temporary)),
        lambda: _write_parts(temporary, parts),
        _on_first(ranks, lambda: _commit(temporary, folder, progress, ranks.world_size)),
    ]
    for stage in stages:
        failure = _attempt(stage)
        if not ranks.agree(failure is None):
            if ranks.rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)
            reason = failure or "another rank failed"
            raise CheckpointError(f"{folder}: not written: {reason}") from failure
    return folder


def open_checkpoint(folder: Path, verify: bool = True) -> Checkpoint:
    """The checkpoint at ``folder``, or the newest one where that is a run folder.

    Args:
        folder: A checkpoint, or a run.
        verify: Compare every file with its sha256.

    Raises:
        CheckpointError: it is not whole; the first missing, strange or changed file is named.
    """
    if (folder / "checkpoints").is_dir():
        newest = newest_complete(folder)
        if newest is None:
            raise CheckpointError(f"{folder}: this run has no whole checkpoint yet")
        return newest
    marker = folder / COMPLETE
    if not marker.is_file():
        raise CheckpointError(f"{folder}: no {COMPLETE} file, so this is no whole checkpoint")
    try:
        content = json.loads(marker.read_text())
        files = dict(content["files"])
        progress = Progress(int(content["step"]), int(content["samples_consumed"]))
        world_size = int(content["world_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{marker}: unreadable: {error!r}") from error
    if content.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{marker}: format {content.get('format_version')!r}, not {FORMAT_VERSION}"
        )
    if verify:
        _verify(folder, files)
    return Checkpoint(folder, progress, world_size, _sha256(marker))


def newest_complete(run: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole; a broken newer one is named in the log."""
    for folder in sorted((run / "checkpoints").glob("step-????????"), reverse=True):
        try:
            return open_checkpoint(folder)
        except CheckpointError as error:
            logger.warning("passed over: %s", error)
    return None


def remove_old(run: Path, keep: int) -> None:
    """Remove all but the ``keep`` newest whole checkpoints, COMPLETE first."""
    whole = [f for f in (run / "checkpoints").glob("step-????????") if (f / COMPLETE).is_file()]
    for folder in sorted(whole)[:-keep]:
        (folder / COMPLETE).unlink()
        shutil.rmtree(folder)


def _on_first(ranks: Ranks, action: Callable[[], None]) -> Callable[[], None]:
    return action if ranks.rank == 0 else lambda: None


def _attempt(stage: Callable[[], None]) -> Exception | None:
    # Whatever fails on one rank must be told to the others, or they wait for ever.
    try:
        stage()
    except Exception as error:
        return error
    return None


def _prepare(folder: Path, temporary: Path) -> None:
    if folder.exists():
        raise CheckpointError("a checkpoint of this step exists already")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)


def _write_parts(temporary: Path, parts: Sequence[Callable[[Path], None]]) -> None:
    for part in parts:
        part(temporary)


def _commit(temporary: Path, folder: Path, progress: Progress, world_size: int) -> None:
    (temporary / PROGRESS).write_text(json.dumps(asdict(progress)) + "\n")
    files = {
        name: {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for name, path in _files(temporary).items()
    }
    marker = {
        "format_version": FORMAT_VERSION,
        **asdict(progress),
        "world_size": world_size,
        "files": files,
    }
    for name in files:
        _fsync(temporary / name)
    (temporary / COMPLETE).write_text(json.dumps(marker, indent=1) + "\n")
    _fsync(temporary / COMPLETE)
    _fsync(temporary)
    temporary.rename(folder)
    _fsync(folder.parent)


def _verify(folder: Path, expected: dict[str, Any]) -> None:
    found = {name: path for name, path in _files(folder).items() if name != COMPLETE}
    for name in sorted(expected.keys() ^ found.keys()):
        problem = "is missing" if name in expected else "does not belong to it"
        raise CheckpointError(f"{folder}: {name} {problem}")
    for name, path in found.items():
        if _sha256(path) != expected[name]["sha256"]:
            raise CheckpointError(f"{folder}: {name} differs from what was written (sha256)")


def _files(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
