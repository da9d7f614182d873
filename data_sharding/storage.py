"""Bytes by location: local paths and fsspec URLs behind the same few functions.

A location is text: a local path, or a URL with one of the schemes of `SCHEMES`. Every failure is an
OSError that names the location, whichever library was at work.
"""

import importlib.util
import io
import os
import posixpath
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast, runtime_checkable

import fsspec
from fsspec.spec import AbstractFileSystem

SCHEMES = ("file", "s3", "gs", "gcs", "az", "abfs", "http", "https", "hf", "memory")
"""Allow-list. ``pipe:`` and fsspec's chained URLs (``::``) run or unpack things; never used."""

BACKENDS = {
    "s3": ("s3fs", "s3"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
    "gs": ("gcsfs", None),
    "gcs": ("gcsfs", None),
    "az": ("adlfs", None),
    "abfs": ("adlfs", None),
}
"""Scheme -> the module that it needs, and the extra of this project that brings it."""

BUFFER_BYTES = 1 << 20


def is_remote(location: str) -> bool:
    """Whether a location is a URL, whose scheme is then checked.

    Raises:
        ValueError: The scheme is not allowed or its library is missing.
    """
    scheme, separator, _ = location.partition(":")
    if location.startswith("pipe:") or "::" in location:
        raise ValueError(f"{location!r} is refused: commands and chained URLs are never run")
    if not separator or not location.startswith(f"{scheme}://"):
        return False
    if scheme not in SCHEMES:
        raise ValueError(f"{location!r}: scheme {scheme!r} is none of {', '.join(SCHEMES)}")
    module, extra = BACKENDS.get(scheme, (None, None))
    if module and importlib.util.find_spec(module) is None:
        what = f"'triptych[{extra}]'" if extra else module
        raise ValueError(f"{location!r} needs the package {module}: pip install {what}")
    return True


def join(location: str, name: str) -> str:
    """The location of a file below another location.

    Raises:
        ValueError: `name` is absolute, empty or leads out of `location`.
    """
    clean = posixpath.normpath(name)
    if not name or "\0" in name or clean.startswith(("/", "../")) or clean in ("..", "."):
        raise ValueError(f"{name!r} is no name below {location}")
    return f"{location.rstrip('/')}/{clean}"


def size(location: str) -> int:
    """Size of a file in bytes."""
    if not is_remote(location):
        return os.stat(location).st_size
    with _errors(location):
        filesystem, path = _filesystem(location)
        found = filesystem.size(path)
    if found is None:
        raise OSError(f"{location}: the server does not tell its size")
    return int(found)


def exists(location: str) -> bool:
    """Whether a file or folder is there; other failures than its absence are raised."""
    if not is_remote(location):
        return os.path.exists(location)
    with _errors(location):
        filesystem, path = _filesystem(location)
        return bool(filesystem.exists(path))


def is_folder(location: str) -> bool:
    """Whether a location is a folder (or the prefix of some object)."""
    if not is_remote(location):
        return os.path.isdir(location)
    with _errors(location):
        filesystem, path = _filesystem(location)
        return bool(filesystem.isdir(path))


def read_bytes(location: str, start: int | None = None, stop: int | None = None) -> bytes:
    """Bytes `start` to `stop` (not included) of a file, or all of it.

    May return fewer bytes than asked for where the file ends earlier.
    """
    if not is_remote(location):
        with open(location, "rb") as file:
            file.seek(start or 0)
            return file.read(-1 if stop is None else stop - (start or 0))
    with _errors(location):
        filesystem, path = _filesystem(location)
        content = cast(bytes, filesystem.cat_file(path, start=start, end=stop))
    if stop is not None and len(content) > stop - (start or 0):
        raise OSError(f"{location}: the server ignores byte ranges; use one that knows them")
    return content


@contextmanager
def open_binary(location: str) -> Iterator[BinaryIO]:
    """A file to read and seek in; remote ones are fetched piece by piece."""
    if not is_remote(location):
        with open(location, "rb", buffering=BUFFER_BYTES) as file:
            yield file
        return
    with _errors(location):
        filesystem, path = _filesystem(location)
        remote = filesystem.open(path, "rb")
    with remote:
        yield cast(
            BinaryIO,
            io.BufferedReader(_RemoteFile(location, cast(_Seekable, remote)), BUFFER_BYTES),
        )


def list_files(location: str, suffixes: Collection[str] = ()) -> Iterator[str]:
    """Names of all files below a folder, relative to it, sorted; links to folders not followed.

    Args:
        location: A folder.
        suffixes: Keep only names that end so, such as ``.tar``.
    """
    wanted = tuple(suffixes)
    for name in _local_files(location) if not is_remote(location) else _remote_files(location):
        if not wanted or name.endswith(wanted):
            yield name


@runtime_checkable
class _Seekable(Protocol):
    """What backends' files have in common."""

    def read(self, count: int, /) -> bytes: ...

    def seek(self, offset: int, whence: int, /) -> int: ...

    def tell(self) -> int: ...


class _RemoteFile(io.RawIOBase):
    """A backend's file whose failures name its location; what the caller raises passes as it is."""

    mode = "rb"

    def __init__(self, location: str, file: _Seekable) -> None:
        self.name = location
        self._location = location
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with _errors(self._location):
            return self._file.seek(offset, whence)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        room = memoryview(buffer)
        with _errors(self._location):
            content = self._file.read(len(room))
        room[: len(content)] = content
        return len(content)


def _local_files(location: str) -> Iterator[str]:
    root = Path(location)
    names = (
        (Path(folder) / name).relative_to(root).as_posix()
        for folder, _, files in os.walk(root, onerror=_raise)
        for name in files
    )
    yield from sorted(names)


def _remote_files(location: str) -> Iterator[str]:
    with _errors(location):
        filesystem, path = _filesystem(location)
        prefix = path.rstrip("/") + "/"
        found = sorted(cast(list[str], filesystem.find(path)))
    yield from (name.removeprefix(prefix) for name in found if name.startswith(prefix))


def _raise(error: OSError) -> None:
    raise error


def _filesystem(location: str) -> tuple[AbstractFileSystem, str]:
    filesystem, path = fsspec.core.url_to_fs(location)
    return filesystem, path


@contextmanager
def _errors(location: str) -> Iterator[None]:
    """Backends raise their own kinds; callers of this module know OSError alone."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{location}: no such file") from error
    except OSError as error:
        raise _plain_kind(error)(f"{location}: {error}") from error
    except Exception as error:
        raise OSError(f"{location}: {type(error).__name__}: {error}") from error


def _plain_kind(error: OSError) -> type[OSError]:
    """Python's own class of an error; backends derive classes that a message cannot make."""
    return next(
        kind
        for kind in type(error).__mro__
        if issubclass(kind, OSError) and kind.__module__ == "builtins"
    )
