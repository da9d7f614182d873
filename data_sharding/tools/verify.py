"""`triptych verify`: every digest and every CRC32 of a set, and where the first broken byte is."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Literal

from data_sharding.foreign.headers import BLOCK, padded, walk_headers
from data_sharding.hashed_file import HashedFile
from data_sharding.index import PartRange, ShardIndex, decode_index
from data_sharding.manifest import MANIFEST_FILE, ShardEntry, ShardSet
from data_sharding.parallel import fitting_workers, in_processes
from data_sharding.retry import RetryConfig, retrying
from data_sharding.schema import PARTS, ShardError
from data_sharding.storage import is_remote, join, list_files, open_binary, read_bytes, size
from data_sharding.writer import END_OF_ARCHIVE, ustar_header

LOGGER = logging.getLogger(__name__)

Depth = Literal["full", "quick"]


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Something that is not as the manifest or the index says.

    Attributes:
        file: Name of the file inside the set.
        what: What is wrong, with the byte range where there is one.
    """

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class ShardCheck:
    """One shard to check; travels to a worker process.

    Attributes:
        location: The set's folder or URL.
        entry: The shard.
        depth: How much of it to read.
        own: Whether `triptych shard` wrote it, so that headers and padding are known as well.
    """

    location: str
    entry: ShardEntry
    depth: Depth
    own: bool


def verify_set(
    shard_set: ShardSet, depth: Depth = "full", workers: int | None = None
) -> Iterator[Damage]:
    """Checks a set whose manifest's own digest was checked when it was opened.

    Args:
        shard_set: The set, local or remote, with all its splits.
        depth: ``full`` reads every byte; ``quick`` reads the indexes and the sizes of the tars.
        workers: Processes; None chooses by size and cores.

    Yields:
        At most one damage a shard, in the order of the set; then files that nobody listed.
    """
    made_by = [
        part.config.get("made_by") for part in shard_set.generations for _ in range(part.num_shards)
    ]
    checks = [
        ShardCheck(location=shard_set.location, entry=entry, depth=depth, own=maker != "index")
        for entry, maker in zip(shard_set.shards, made_by, strict=True)
    ]
    num_bytes = sum(entry.bytes for entry in shard_set.shards) if depth == "full" else 0
    chosen = fitting_workers(num_bytes) if workers is None else workers
    for damage in in_processes(check_shard, checks, chosen, "verifying"):
        if damage is not None:
            yield damage
    yield from _unlisted(shard_set)


def check_shard(check: ShardCheck) -> Damage | None:
    """The first damage of a shard, None if it is whole."""
    entry = check.entry
    tar = join(check.location, entry.file)
    try:
        index = _read_index(check.location, entry)
    except (ShardError, OSError) as error:
        return Damage(file=entry.index_file, what=str(error))
    try:
        found = retrying(partial(size, tar), tar, _retry(tar))
        if found != entry.bytes:
            return Damage(file=entry.file, what=_wrong_size(entry, index, found))
        if check.depth == "quick":
            return None
        what = retrying(partial(_read_tar, tar, check, index), tar, _retry(tar))
    except FileNotFoundError:
        what = "missing"
    except OSError as error:
        what = f"cannot be read ({error})"
    return Damage(file=entry.file, what=what) if what else None


def _retry(location: str) -> RetryConfig:
    return RetryConfig(attempts=RetryConfig().attempts if is_remote(location) else 1)


def _read_index(location: str, entry: ShardEntry) -> ShardIndex:
    path = join(location, entry.index_file)
    try:
        content = retrying(partial(read_bytes, path), path, _retry(path))
    except FileNotFoundError as error:
        raise ShardError("missing; make it with `triptych index`, or shard again") from error
    index = decode_index(content, entry.index_file)
    if index.tar_sha256.hex() != entry.sha256 or index.tar_bytes != entry.bytes:
        raise ShardError(f"belongs to another tar than {MANIFEST_FILE} lists")
    if len(index) != entry.samples or index.present() != dict(entry.present):
        raise ShardError(f"its samples are not those that {MANIFEST_FILE} counts")
    return index


def _wrong_size(entry: ShardEntry, index: ShardIndex, found: int) -> str:
    if found > entry.bytes:
        return f"bytes {entry.bytes}-{found - 1} are too many; {entry.bytes} are listed"
    lost = int((index.sample_offsets[1:] > found).sum())
    return (
        f"bytes {found}-{entry.bytes - 1} are missing; {lost} of {len(index)} samples are cut off"
    )


def _read_tar(tar: str, check: ShardCheck, index: ShardIndex) -> str | None:
    with open_binary(tar) as file:
        hashed = HashedFile(file, tar)
        try:
            broken = next(_broken_ranges(hashed, check, index), None)
        except ShardError as error:
            return str(error)
        if broken is not None:
            return broken
        _, sha256 = hashed.finish()
        if sha256.hex() == check.entry.sha256:
            return None
        return _broken_between(file, index)


def _broken_ranges(hashed: HashedFile, check: ShardCheck, index: ShardIndex) -> Iterator[str]:
    """Ranges that differ, in the order of the tar: members, and in own shards what is between."""
    stem = check.entry.file.removesuffix(".tar").removeprefix("shard-")
    for row in range(len(index)):
        for part in index.parts_of(row, PARTS):
            name = f"{stem}-{row:06d}.{part.suffix}"
            if check.own:
                yield from _broken_header(hashed, part, name)
            if hashed.crc32(part.start, part.length) != part.crc32:
                yield _range(part.start, part.start + part.length, f"{name}", "CRC32 differs")
    if check.own:
        start = hashed.position
        tail = bytes(padded(start) - start) + END_OF_ARCHIVE
        if hashed.read(len(tail)) != tail:
            yield _range(start, start + len(tail), "end of the tar", "not the zeros of its end")


def _broken_header(hashed: HashedFile, part: PartRange, name: str) -> Iterator[str]:
    """What lies before a member in an own shard: the padding of the last one, and its header."""
    start = hashed.position
    padding = padded(start) - start
    if part.start != start + padding + BLOCK:
        yield _range(start, part.start, f"before {name}", "not laid out as the index says")
        return
    expected = bytes(padding) + ustar_header(name, part.length)
    if hashed.read(padding + BLOCK) != expected:
        yield _range(start, part.start, f"header of {name}", "differs")


def _broken_between(file: BinaryIO, index: ShardIndex) -> str:
    """Every member that the index knows is whole; a foreign tar's headers tell the rest."""
    try:
        for _ in walk_headers(file, "the tar"):
            pass
    except ShardError as error:
        return f"sha256 differs; {error}"
    return (
        f"sha256 differs, though all {len(index)} samples are whole: something between them was "
        "changed, in a header, the padding, or a member that the index leaves out"
    )


def _range(start: int, stop: int, name: str, what: str) -> str:
    return f"bytes {start}-{stop - 1} ({name}): {what}"


def _unlisted(shard_set: ShardSet) -> Iterator[Damage]:
    """Tars and indexes in the set's folder that its manifest does not list."""
    listed = {name for entry in shard_set.shards for name in (entry.file, entry.index_file)}
    try:
        found = list(list_files(shard_set.location, (".tar", ".idx")))
    except OSError as error:
        LOGGER.warning("%s: extra files were not looked for (%s)", shard_set.location, error)
        return
    for name in found:
        # Other readers keep indexes beside tars: NAME.tar.idx is Energon's.
        if "/" not in name and name not in listed and not name.endswith(".tar.idx"):
            yield Damage(file=name, what=f"not in {MANIFEST_FILE}; it is never read, remove it")
