"""One medium's bytes from a corpus: a whole file or a piece of a tar, local or remote.

A path that a corpus names is only ever joined below the corpus's root. On a local disk, links are
resolved first, so that none leads out; a remote name is normalised, as text and as it reads after
percent-decoding.
"""

import errno
import os
from urllib.parse import unquote

from data_sharding.retry import RetryConfig, retrying
from data_sharding.schema import Medium, Rejection
from data_sharding.storage import is_remote, join, read_bytes, size

ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says where no file of that name can be; trying again would not help."""


def read_medium(root: str, medium: Medium, max_bytes: int, retry: RetryConfig) -> bytes:
    """Reads a medium that lies below the corpus's root.

    What is wrong with the corpus is a rejection; storage that keeps failing is an error, so that a
    bad day of a server neither thins out a corpus nor changes its digest.

    Args:
        root: Local folder or URL.
        medium: A file below it, or a piece of one.
        max_bytes: A larger medium is refused before it is read.
        retry: How often a read that fails is tried again.

    Raises:
        Rejection: ``outside-corpus``, ``missing-file``, ``file-too-large`` or ``unreadable``.
        OSError: The storage failed at every try.
    """
    location = locate_below(root, medium.path)
    return retrying(lambda: _read(location, medium, max_bytes), location, retry)


def locate_below(root: str, name: str) -> str:
    """The location of a file that a corpus names.

    An absolute path or URL is accepted where it lies below the root.

    Raises:
        Rejection: ``outside-corpus``, or ``missing-file`` for what is no path.
    """
    if is_remote(root):
        return _locate_remote(root, name)
    try:
        real_root = os.path.realpath(root)
        path = os.path.realpath(os.path.join(real_root, name))
        if os.path.commonpath((real_root, path)) != real_root:
            raise Rejection("outside-corpus", f"{name!r} leads out of the corpus folder")
    except (OSError, ValueError) as error:  # a NUL in the name, or a name too long to look up
        raise Rejection("missing-file", f"{name!r} is no path ({error})") from error
    return path


def _locate_remote(root: str, name: str) -> str:
    inside = name.removeprefix(root.rstrip("/") + "/")
    try:
        join(root, unquote(inside))
        return join(root, inside)
    except ValueError as error:
        raise Rejection("outside-corpus", f"{name!r} leads out of {root}") from error


def _read(location: str, medium: Medium, max_bytes: int) -> bytes:
    """One try.

    Raises:
        OSError: It may succeed another time.
    """
    start, length = medium.start or 0, medium.length
    try:
        _refuse_folder(location, medium)
        if length is None:
            length = _size(location) - start
        if length > max_bytes:
            raise Rejection(
                "file-too-large", f"{medium.path!r} has {length} bytes, the limit is {max_bytes}"
            )
        content = read_bytes(location, start, start + length) if length else b""
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno in ABSENT:
            raise Rejection("missing-file", f"{medium.path!r} is no file of the corpus") from error
        if isinstance(error, PermissionError):
            raise Rejection("unreadable", f"{medium.path!r} may not be read ({error})") from error
        raise
    if len(content) != length:
        found = f"{medium.path!r} ends after {len(content)} of {length} bytes"
        if is_remote(location):  # an answer that was cut short
            raise OSError(found)
        raise Rejection("unreadable", found)
    return content


def _size(location: str) -> int:
    """Size of a file; over HTTP, a server that fails for now is told from a missing file."""
    try:
        return size(location)
    except FileNotFoundError:
        if is_remote(location):
            # fsspec calls any failed question for a size "not found"; a read tells 404 from 503.
            read_bytes(location, 0, 1)
            raise OSError(f"{location}: the server does not tell its size") from None
        raise


def _refuse_folder(location: str, medium: Medium) -> None:
    """A local name must be a plain file: a pipe or a device would block or never end."""
    if not is_remote(location) and not os.path.isfile(location):
        raise Rejection("missing-file", f"{medium.path!r} is no file of the corpus")
