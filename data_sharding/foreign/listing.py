"""A tar's samples exactly as a plain WebDataset reader groups them, for other readers' indexes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from data_sharding.foreign.headers import walk_headers

NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
META = re.compile(r"__[^/]*__($|/)")


class ListedMember(NamedTuple):
    """One member: suffix and name as the tar has them, and where its content lies."""

    suffix: str
    name: str
    start: int
    length: int


@dataclass
class ListedSample:
    """Adjacent members of one key.

    Attributes:
        key: The name up to the first dot of its base name.
        start: Byte where the first header begins.
        stop: Byte after the last member's padding.
        members: In the order of the tar.
    """

    key: str
    start: int
    stop: int
    members: list[ListedMember] = field(default_factory=list)


def list_samples(file: BinaryIO, name: str) -> Iterator[ListedSample]:
    """Every sample of a tar, whatever its members are.

    Raises:
        ShardError: The tar is cut off or holds garbage.
    """
    sample: ListedSample | None = None
    for entry in walk_headers(file, name):
        found = NAME.fullmatch(entry.name)
        if entry.kind != "file" or found is None or META.match(entry.name):
            continue
        key, suffix = found.groups()
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = ListedSample(key=key, start=entry.header, stop=entry.stop)
        sample.stop = entry.stop
        sample.members.append(ListedMember(suffix, entry.name, entry.start, entry.length))
    if sample is not None:
        yield sample
