"""A folder whose files of one name form a sample: ``a/b/cat.jpg``, ``cat.txt``, ``cat.flac``.

The name up to its last dot is the sample, its path below the folder the id (``a/b/cat``). A
``.json`` beside them holds id, labels, metadata. Files of other kinds and hidden ones are passed
over.
"""

import hashlib
import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from data_sharding.cleaning.media import read_medium
from data_sharding.retry import RetryConfig
from data_sharding.schema import ALIASES, MAIN_PARTS, PARTS, Medium, Record, Rejection
from data_sharding.sources.config import SourceConfig
from data_sharding.sources.members import MAX_INLINE_BYTES, build_record, refuse_media_columns
from data_sharding.sources.rows import Row
from data_sharding.storage import is_folder, is_remote, join, list_files, size


class FolderSource:
    """Samples by file name, in the order of folders and names; one folder's names in memory.

    (A remote folder is listed whole, because stores list by prefix.)

    Raises:
        ValueError: No such folder, or nothing in it that could be part of a sample.
    """

    def __init__(self, location: str, config: SourceConfig) -> None:
        if not is_folder(location):
            raise ValueError(f"{location}: no such folder")
        refuse_media_columns(config.columns, "a folder")
        self.root = location.rstrip("/") or "/"
        self._columns = config.columns
        if next(_stems(self.root), None) is None:
            kinds = ", ".join(MAIN_PARTS)
            raise ValueError(f"{location} holds no file of a known kind ({kinds}) and no manifest")

    def fingerprint(self) -> list[dict[str, Any]]:
        """One entry for the whole folder: a digest over all names and sizes."""
        digest, num_files = hashlib.sha256(), 0
        for stem, names in _stems(self.root):
            for name in names:
                path = posixpath.join(posixpath.dirname(stem), name)
                line = f"{path}\0{size(join(self.root, path))}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
                num_files += 1
        name = posixpath.basename(self.root)
        return [{"file": name, "num_files": num_files, "names_sha256": digest.hexdigest()}]

    def rows(self) -> Iterator[Row]:
        """One row for each file name."""
        for number, (stem, names) in enumerate(_stems(self.root), start=1):
            yield Row(number=number, content=self._content(stem, names, number))

    def _content(self, stem: str, names: list[str], number: int) -> Record | Rejection:
        found: dict[str, tuple[str, str]] = {}
        for name in names:
            suffix = _suffix(name)
            assert suffix is not None
            first = found.setdefault(PARTS[suffix], (suffix, name))[1]
            if first != name:
                both = f"{first!r} and {name!r} of {stem!r} are both {PARTS[suffix]}"
                return Rejection("bad-row", both)
        folder = posixpath.dirname(stem)
        paths = {suffix: posixpath.join(folder, name) for suffix, name in found.values()}
        try:
            small = {
                suffix: self._read_small(path)
                for suffix, path in paths.items()
                if PARTS[suffix] in ("text", "card")
            }
        except Rejection as rejection:
            return rejection
        media = {suffix: Medium(path=path) for suffix, path in paths.items() if suffix not in small}
        return build_record(stem, small, media, number, self._columns)

    def _read_small(self, path: str) -> bytes:
        return read_medium(self.root, Medium(path=path), MAX_INLINE_BYTES, RetryConfig())


def _stems(root: str) -> Iterator[tuple[str, list[str]]]:
    """Path without suffix -> its file names, sorted."""
    folders = _remote_folders(root) if is_remote(root) else _local_folders(root, "")
    for folder, names in folders:
        groups: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if _suffix(name) is not None:
                groups[name.rpartition(".")[0]].append(name)
        for stem in sorted(groups):
            yield posixpath.join(folder, stem), sorted(groups[stem])


def _suffix(name: str) -> str | None:
    """The canonical suffix of a file that can be part of a sample."""
    stem, _, suffix = name.rpartition(".")
    suffix = ALIASES.get(suffix.lower(), suffix.lower())
    return suffix if stem and not name.startswith(".") and suffix in PARTS else None


def _local_folders(root: str, folder: str) -> Iterator[tuple[str, list[str]]]:
    """A folder's files, then those of its folders; links to folders are not followed."""
    names, inner = [], []
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                inner.append(entry.name)
            else:
                names.append(entry.name)
    yield folder, names
    for name in sorted(inner):
        if not name.startswith("."):
            yield from _local_folders(root, posixpath.join(folder, name))


def _remote_folders(root: str) -> Iterator[tuple[str, list[str]]]:
    names: dict[str, list[str]] = defaultdict(list)
    for path in list_files(root):
        folder, _, name = path.rpartition("/")
        names[folder].append(name)
    for folder in sorted(names, key=lambda path: path.split("/") if path else []):
        if not any(part.startswith(".") for part in folder.split("/")):
            yield folder, names[folder]
