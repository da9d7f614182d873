"""How much memory is free, for what is kept of a whole task at once."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEMORY_SHARE = 0.5
"""What would fill more than this share of the free memory is refused."""

GROUPS = "sys/fs/cgroup"
FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Limit, use, and the key in ``memory.stat`` of what the kernel drops first where memory runs out,
of control groups of version 2, and of version 1, whose folder has this name."""


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can be had without swapping, and without a limit ending this process.

    The least of the machine's, by Linux's own estimate, and of what the limits of this process's
    control group and of those around it leave (a container's, a Slurm job's). Read files that lie
    unused in the page cache count as free, as they do in the machine's.

    Args:
        root: Of the file system.

    Raises:
        ValueError: The system does not tell.
    """
    return max(0, min((_of_machine(root), *_of_groups(root))))


def _of_machine(root: Path) -> int:
    path = root / "proc/meminfo"
    try:
        return _numbers(path)["MemAvailable:"] * 1024
    except (OSError, KeyError, ValueError):
        raise ValueError(f"{path} does not tell how much memory is free") from None


def _of_groups(root: Path) -> Iterator[int]:
    """What each limit leaves; nothing where there is none."""
    for folder, version in _folders(root):
        limit_file, use_file, unused = FILES[version]
        try:
            limit = (folder / limit_file).read_text(encoding="ascii").strip()
            if limit == "max":
                continue
            used = int((folder / use_file).read_text(encoding="ascii"))
            yield int(limit) - used + _numbers(folder / "memory.stat").get(unused, 0)
        except FileNotFoundError:
            continue  # another's, hidden from this container; or the topmost, which has no limit
        except ValueError:
            raise ValueError(f"{folder} does not tell how much memory is free") from None


def _folders(root: Path) -> Iterator[tuple[Path, str]]:
    """This process's control groups and all around them, each with its version's name."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return  # a kernel without control groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version = "memory" if "memory" in controllers.split(",") else controllers
        inside = PurePosixPath(path.lstrip("/"))
        if version in FILES:
            for part in (inside, *inside.parents):
                if ".." not in part.parts:  # outside of what this container is shown
                    yield root / GROUPS / version / part, version


def _numbers(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1}
