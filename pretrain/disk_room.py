"""A full disk told as one sentence, by whichever library met it: where, how much, what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))
"""How a failure for want of room is told, by Python and by safetensors alike."""


class NoRoomError(OSError):
    """There is no room to write something; the message is a whole sentence."""


def tells_of_no_room(reason: str) -> bool:
    """Whether the text of an error says that the disk, or a quota of it, is full."""
    return any(told in reason for told in NO_ROOM)


def free_bytes(folder: Path) -> int:
    """Room where a folder lies, or would."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def room_named(out: Path, instead: str = "name a place on another disk") -> Iterator[None]:
    """Say where there is no room, and what to do, where writing ``out`` fails for want of it.

    safetensors has an error of its own for that, and Python's does not name the file.

    Args:
        out: File or folder, as its user named it.
        instead: What else can be done than to make room.

    Raises:
        NoRoomError: The block failed for want of room. Its other errors pass.
    """
    try:
        yield
    except Exception as error:
        reason = next((told for told in NO_ROOM if told in str(error)), None)
        if reason is None:
            raise
        raise NoRoomError(
            f"{out}: not written: {reason} ({free_bytes(out.absolute()) / 1e6:.1f} MB are free "
            f"there); make room, or {instead}, and run the same command again"
        ) from error
