"""Foreign WebDataset tars: headers are walked, texts and cards read, media only located."""

import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from data_sharding.cleaning.media import locate_below
from data_sharding.foreign.names import list_tars
from data_sharding.foreign.walk import TarSample, walk_samples
from data_sharding.schema import PARTS, Medium, Record, Rejection, ShardError, modality_of
from data_sharding.sources.config import SourceConfig
from data_sharding.sources.members import MAX_INLINE_BYTES, build_record, refuse_media_columns
from data_sharding.sources.rows import Row
from data_sharding.storage import is_remote, open_binary, size

LOGGER = logging.getLogger(__name__)


class TarsSource:
    """The samples of one tar, of a folder of tars or of a pattern of names, in that order.

    A tar that is cut off gives the whole samples before the break, and one rejection
    (``broken-tar``) that says where it broke.

    Raises:
        ValueError: There is no such tar, or one is a link out of its folder.
    """

    def __init__(self, location: str, config: SourceConfig) -> None:
        refuse_media_columns(config.columns, "a tar")
        self._columns = config.columns
        self._tars = list_tars(location)
        self.root = _common_folder(self._tars)
        self._names = [tar[len(self.root) :].lstrip("/") for tar in self._tars]
        for name in self._names:
            try:
                locate_below(self.root, name)
            except Rejection as rejection:
                raise ValueError(
                    f"{rejection.detail}: name the folder where the tars themselves lie"
                ) from rejection

    def fingerprint(self) -> list[dict[str, Any]]:
        """Name and size of each tar."""
        pairs = sorted(zip(self._names, self._tars, strict=True))
        return [{"file": name, "bytes": size(tar)} for name, tar in pairs]

    def rows(self) -> Iterator[Row]:
        """One row for each sample."""
        number = 0
        for tar, name in zip(self._tars, self._names, strict=True):
            for content in self._contents(tar, name, number):
                number += 1
                yield Row(number=number, content=content)

    def _contents(self, tar: str, name: str, before: int) -> Iterator[Record | Rejection]:
        """Records of one tar whose first sample has the number `before` + 1."""
        ignored: Counter[str] = Counter()
        with open_binary(tar) as file:
            try:
                for number, sample in enumerate(walk_samples(file, name, ignored), before + 1):
                    yield self._content(file, name, sample, number)
            except ShardError as error:
                LOGGER.warning("%s; the whole samples before it are kept", error)
                yield Rejection("broken-tar", str(error))
        if ignored:
            kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(ignored.items()))
            LOGGER.info("%s: members of other kinds were passed over: %s", name, kinds)

    def _content(
        self, file: BinaryIO, name: str, sample: TarSample, number: int
    ) -> Record | Rejection:
        if sample.fault is not None:
            return Rejection(sample.fault.reason, f"{name}: {sample.fault.detail}")
        small: dict[str, bytes] = {}
        media: dict[str, Medium] = {}
        for suffix, member in sample.members.items():
            if modality_of(PARTS[suffix]) in ("image", "audio"):
                media[suffix] = Medium(path=name, start=member.start, length=member.length)
            elif member.length > MAX_INLINE_BYTES:
                what = f"{name}: {member.name!r} has {member.length} bytes"
                return Rejection("file-too-large", f"{what}, the limit is {MAX_INLINE_BYTES}")
            else:
                file.seek(member.start)
                small[suffix] = file.read(member.length)
        return build_record(sample.key, small, media, number, self._columns)


def _common_folder(tars: list[str]) -> str:
    """The location that all tars lie below."""
    folders = {posixpath.dirname(tar) for tar in tars}
    if len(folders) == 1:
        return folders.pop() or "."
    if is_remote(tars[0]):
        common = posixpath.commonprefix([folder + "/" for folder in folders])
        return common.rpartition("/")[0]
    return os.path.commonpath([os.path.abspath(folder) for folder in folders])
