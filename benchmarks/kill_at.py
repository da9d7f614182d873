"""What a process does with files, looked at from within, and SIGKILL at a chosen moment of it.

Python tells its audit hooks of each file that it opens, renames or removes, so the code under
test needs no flag and no seam.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def watch_files(folder: Path, tell: Callable[[str], None]) -> None:
    """Tell of each event with a file below a folder, just before it happens.

    It cannot be taken back: use it in a process of its own.

    Args:
        folder: What is looked at.
        tell: Takes the event's name and its arguments, such as ``os.rename FROM TO -1 -1``; called
            in the thread that does it.
    """

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in EVENTS and _is_below(str(folder), arguments):
            tell(f"{event} {' '.join(str(part) for part in arguments)}")

    sys.addaudithook(hook)


def _is_below(folder: str, arguments: tuple[object, ...]) -> bool:
    # A tree is removed by names relative to an open folder: there the path tells nothing.
    relative = isinstance(arguments[-1], int) and arguments[-1] >= 0
    path = str(arguments[0])
    return path.startswith(folder) or (relative and not path.startswith("/"))


class KillAt:
    """Ends this process just before its ``number``-th event with a file below a folder.

    Args:
        folder: What is looked at.
        number: Counted from 1.
        log: Takes the event's name and file before the process ends.
    """

    def __init__(self, folder: Path, number: int, log: Path) -> None:
        self._number = number
        self._log = log
        self._seen = 0
        watch_files(folder, self._count)

    def _count(self, described: str) -> None:
        self._seen += 1
        if self._seen == self._number:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, f"{described}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
