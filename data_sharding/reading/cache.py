"""Pieces of remote shards on a node's own disk, bounded in bytes, shared by its processes.

::

    chunks/3f/3fc0...-00000012   a piece, named by its shard's sha256
    new                          the piece being stored, under the lock
    usage                        bytes held, as text
    lock                         flock: held by whoever stores or removes
    filling/a7                   flock: somebody fetches pieces with this hash

`usage` is raised before a piece appears and lowered after one has gone, so that a process killed in
between leaves it too high, never too low; the next eviction counts anew. A file called `new` that
is found under the lock was left by a dead process.
"""

import fcntl
import logging
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOGGER = logging.getLogger(__name__)

NAME = re.compile(r"[0-9a-f]{64}-(index|[0-9]{1,12})")
"""A shard's sha256 and what of it; names become paths below the cache's folder."""

KEPT_SHARE = 0.9
"""An eviction goes on down to this share of the bound, since it looks at every file."""


class NodeCache:
    """A bounded store of named byte strings.

    Args:
        folder: Made where it is missing. On a local disk: flock on network file systems is slow.
        bound_bytes: Most that the pieces together take, whatever the number of processes.

    Attributes:
        storing: False once storing has failed (disk full, no permission); reads go on.

    Raises:
        ValueError: The folder cannot be made.
    """

    def __init__(self, folder: Path, bound_bytes: int) -> None:
        self.storing = True
        self._folder = folder
        self._chunks = str(folder / "chunks")
        self._bound = bound_bytes
        try:
            (folder / "chunks").mkdir(parents=True, exist_ok=True)
            (folder / "filling").mkdir(exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{folder} cannot be made ({error.strerror}); choose another cache_folder"
            ) from error

    def has(self, name: str) -> bool:
        """Whether a piece is there at this moment."""
        return os.path.exists(self._path(name))

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """Bytes of a piece, or None when it is not there; counts as a use of it."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._give_up(error)
            return None
        try:
            wanted = (os.fstat(descriptor).st_size if stop is None else stop) - start
            content = os.pread(descriptor, wanted, start)
            with suppress(PermissionError):  # another user's file: read, but not marked as used
                os.utime(descriptor)
        except OSError as error:
            self._give_up(error)
            return None
        finally:
            os.close(descriptor)
        return content if len(content) == wanted else None

    def store(self, name: str, content: bytes | memoryview) -> bool:
        """Keeps a piece; returns whether it is now there."""
        if not self.storing or len(content) > self._bound:
            return False
        try:
            with self._locked() as account:
                path = self._path(name)
                if not os.path.exists(path):
                    self._make_room(account, len(content))
                    self._place(path, content)
        except OSError as error:
            self._give_up(error)
            return False
        return True

    def drop(self, name: str) -> None:
        """Removes a piece that turned out to be broken."""
        try:
            with self._locked() as account:
                path = self._path(name)
                size = os.stat(path).st_size
                os.unlink(path)
                usage = _read_usage(account)
                if usage is not None:
                    _write_usage(account, max(0, usage - size))
        except FileNotFoundError:
            return
        except OSError as error:
            self._give_up(error)

    @contextmanager
    def filling(self, name: str) -> Iterator[None]:
        """Only one thread of the node at a time, so that nothing is fetched twice."""
        stripe = self._folder / "filling" / f"{zlib.crc32(name.encode()) & 255:02x}"
        try:
            descriptor = os.open(stripe, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            self._give_up(error)
            yield
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a cached piece")
        return f"{self._chunks}/{name[:2]}/{name}"

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Holds the cache's lock; gives the descriptor of its account."""
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            account = os.open(self._folder / "usage", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._new().unlink(missing_ok=True)
                yield account
            finally:
                os.close(account)
        finally:
            os.close(lock)

    def _make_room(self, account: int, size: int) -> None:
        """Puts `size` on the account, after removing what was unused for longest if need be."""
        usage = _read_usage(account)
        if usage is None or usage + size > self._bound:
            usage = self._evict(size)
        _write_usage(account, usage + size)

    def _evict(self, size: int) -> int:
        """Removes pieces until `size` more fit; returns the bytes that are left."""
        pieces = sorted(self._pieces())
        usage = sum(held for _, held, _ in pieces)
        if usage + size <= self._bound:
            return usage
        allowed = min(self._bound - size, int(KEPT_SHARE * self._bound))
        for _, held, path in pieces:
            if usage <= allowed:
                break
            os.unlink(path)
            usage -= held
        return usage

    def _pieces(self) -> Iterator[tuple[int, int, str]]:
        """(time of last use in ns, bytes, path) of every piece."""
        for folder in os.scandir(self._chunks):
            for entry in os.scandir(folder.path):
                found = entry.stat()
                yield found.st_mtime_ns, found.st_size, entry.path

    def _place(self, path: str, content: bytes | memoryview) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            with self._new().open("wb") as file:
                file.write(content)
            os.replace(self._new(), path)
        except OSError:
            self._new().unlink(missing_ok=True)
            raise

    def _new(self) -> Path:
        return self._folder / "new"

    def _give_up(self, error: OSError) -> None:
        """Says once why nothing more is stored; a full disk must not end a run."""
        if self.storing:
            LOGGER.warning(
                "%s: the cache cannot be used (%s); reading goes on without storing more. Free "
                "some space, lower cache_bytes, or choose another cache_folder",
                self._folder,
                error.strerror or error,
            )
        self.storing = False


def _read_usage(account: int) -> int | None:
    """Bytes held, or None where that is not known."""
    text = os.pread(account, 32, 0)
    return int(text) if text.strip().isdigit() else None


def _write_usage(account: int, usage: int) -> None:
    os.pwrite(account, b"%020d\n" % usage, 0)
