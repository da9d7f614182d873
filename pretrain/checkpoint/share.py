"""One rank's share of a checkpoint: written, checked, made durable, hashed. No collective."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_sharding.durable import sync_folder
from pretrain.checkpoint.files import FileSum, files_of, refuse_non_finite, refuse_other_kinds
from pretrain.parts import Write


@dataclass(frozen=True)
class Receipt:
    """What a rank tells the others of its share."""

    files: dict[str, FileSum] = field(default_factory=dict)
    failure: str | None = None


def write_share(temporary: Path, rank: int, writes: Sequence[Write]) -> Receipt:
    """Write a rank's files durably into the folder that all ranks share; tells of any failure.

    They are made in a folder of the rank's own, so that it knows which are its own, and no two
    ranks can write the same one.
    """
    own = temporary / f"rank-{rank:05d}.part"
    try:
        own.mkdir(parents=True)
        for write in writes:
            write(own)
        return Receipt(_hand_over(own, temporary))
    # Whatever fails on one rank must be told to the others, or they wait for ever.
    except Exception as error:
        return failed(rank, error)


def failed(rank: int, error: Exception) -> Receipt:
    """A share that could not be written."""
    return Receipt(failure=f"rank {rank}: {type(error).__name__}: {error}")


def _hand_over(own: Path, temporary: Path) -> dict[str, FileSum]:
    """Check, sync and hash each file, then move it to where it belongs."""
    sums = {}
    for name, path in files_of(own).items():
        refuse_other_kinds(name)
        refuse_non_finite(path)
        sync_folder(path)
        sums[name] = FileSum.of(path)
        place = temporary / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            raise ValueError(f"{name} was written by another rank already")
        path.rename(place)
    for folder in sorted((path for path in own.rglob("*")), reverse=True):
        folder.rmdir()
    own.rmdir()
    return sums
