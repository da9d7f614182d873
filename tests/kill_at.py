"""SIGKILL at a chosen moment of a process's work with files, for tests and the fault drill.

Python tells its audit hooks of each file that it opens, renames or removes, so the code under
test needs no flag and no seam.
"""

import os
import runpy
import signal
import sys
from pathlib import Path

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


class KillAt:
    """Ends this process just before its ``number``-th event with a file below a folder.

    It cannot be taken back: use it in a process of its own.

    Args:
        folder: What is looked at.
        number: Counted from 1.
        log: Takes the event's name and file before the process ends.
    """

    def __init__(self, folder: Path, number: int, log: Path) -> None:
        self._folder = str(folder)
        self._number = number
        self._log = log
        self._seen = 0
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in EVENTS or not self._is_below(arguments):
            return
        self._seen += 1
        if self._seen == self._number:
            described = f"{event} {' '.join(str(part) for part in arguments)}\n"
            descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, described.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_below(self, arguments: tuple[object, ...]) -> bool:
        # A tree is removed by names relative to an open folder: there the path tells nothing.
        relative = isinstance(arguments[-1], int) and arguments[-1] >= 0
        path = str(arguments[0])
        return path.startswith(self._folder) or (relative and not path.startswith("/"))


def main() -> None:
    """``kill_at.py RANK NUMBER FOLDER LOG MODULE ARGUMENTS`` runs a module and kills a rank."""
    rank, number, folder, log, module, *arguments = sys.argv[1:]
    if os.environ["RANK"] == rank:
        KillAt(Path(folder), int(number), Path(log))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
