"""Foreign WebDataset tars -> a shard set as they are: an index beside each tar, and a manifest.

Every tar is one task without a common step: its headers are walked, then its bytes are read once
for the CRC32 of every member and the tar's sha256. The tars themselves are never changed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_sharding.durable import write_durably
from data_sharding.foreign.walk import TarSample, walk_samples
from data_sharding.hashed_file import HashedFile
from data_sharding.index import IndexRow, ShardIndex, build_index, encode_index, read_index
from data_sharding.manifest import SHARD_NAME, ShardEntry
from data_sharding.schema import Rejection, ShardError

MAX_RANGE = 2**32 - 1
"""Offsets inside a sample and lengths are 32 bits wide in the index."""

BrokenTar = Literal["refuse", "keep"]


@dataclass(frozen=True, kw_only=True)
class TarReport:
    """What became of one tar.

    Attributes:
        path: The tar.
        entry: How the manifest lists it (with an empty split); None where it is refused.
        rejects: Reason -> number of its samples that were left out.
        ignored: Kind of member -> number of members that were passed over.
        problem: What is broken in the tar, if anything.
        fresh: Whether the tar was read, or its index found finished.
    """

    path: Path
    entry: ShardEntry | None
    rejects: Mapping[str, int]
    ignored: Mapping[str, int]
    problem: str | None = None
    fresh: bool = True


@dataclass(frozen=True, kw_only=True)
class Walked:
    """The samples of one tar that can be streamed, and what was left out."""

    samples: Sequence[TarSample]
    rejects: Mapping[str, int]
    ignored: Mapping[str, int]
    problem: str | None


def index_tar(path: Path, broken: BrokenTar = "refuse", force: bool = False) -> TarReport:
    """Writes ``NAME.idx`` beside ``NAME.tar``, or finds that it is there already.

    Args:
        path: A local tar, not compressed.
        broken: What to do with a tar that is cut off or holds garbage: refuse it, or keep the
            whole samples before the break.
        force: Read the tar again even where a finished index of it lies beside it.

    Raises:
        OSError: The tar cannot be read, or the index cannot be written.
    """
    walked = _walk(path)
    if not SHARD_NAME.fullmatch(path.name):
        walked = _refused(walked, f"{path}: rename it; a shard's name has A-Z a-z 0-9 . _ - only")
    elif walked.problem is None and not walked.samples:
        walked = _refused(walked, f"{path}: not one usable sample ({counted(walked.rejects)})")
    if not walked.samples or (walked.problem and broken == "refuse"):
        return _report(path, walked, None, fresh=False)
    found = None if force else _finished(path, walked.samples)
    index = found or _read_tar(path, walked.samples)
    if found is None:
        write_durably(path.with_suffix(".idx"), encode_index(index))
    return _report(path, walked, index, fresh=found is None)


def counted(counts: Mapping[str, int]) -> str:
    """``duplicate-key 2, empty-sample 1``."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _refused(walked: Walked, problem: str) -> Walked:
    return Walked(samples=(), rejects=walked.rejects, ignored=walked.ignored, problem=problem)


def _report(path: Path, walked: Walked, index: ShardIndex | None, fresh: bool) -> TarReport:
    return TarReport(
        path=path,
        entry=None if index is None else _entry(path, index),
        rejects=walked.rejects,
        ignored=walked.ignored,
        problem=walked.problem,
        fresh=fresh,
    )


def _entry(path: Path, index: ShardIndex) -> ShardEntry:
    return ShardEntry(
        file=path.name,
        split="",
        samples=len(index),
        bytes=index.tar_bytes,
        sha256=index.tar_sha256.hex(),
        present=index.present(),
    )


def _walk(path: Path) -> Walked:
    samples: list[TarSample] = []
    rejects: Counter[str] = Counter()
    ignored: Counter[str] = Counter()
    problem = None
    with path.open("rb") as file:
        try:
            for sample in walk_samples(file, str(path), ignored):
                fault = sample.fault or _too_large(sample)
                if fault is None:
                    samples.append(sample)
                else:
                    rejects[fault.reason] += 1
        except ShardError as error:
            problem = str(error)
            rejects["broken-tar"] += 1
    return Walked(samples=samples, rejects=rejects, ignored=ignored, problem=problem)


def _too_large(sample: TarSample) -> Rejection | None:
    if sample.stop - sample.start > MAX_RANGE:
        size = sample.stop - sample.start
        return Rejection("sample-too-large", f"{sample.key!r} spans {size} bytes, over 4 GiB")
    return None


def _read_tar(path: Path, samples: Sequence[TarSample]) -> ShardIndex:
    """Checksums in one pass over the bytes."""
    with path.open("rb", buffering=0) as raw:
        tar = HashedFile(raw, str(path))
        rows = [
            IndexRow(
                start=sample.start,
                parts={
                    suffix: (member.start, member.length, tar.crc32(member.start, member.length))
                    for suffix, member in sample.members.items()
                    if member.length
                },
            )
            for sample in samples
        ]
        size, sha256 = tar.finish()
    return build_index(rows, samples[-1].stop, (size, sha256))


def _finished(path: Path, samples: Sequence[TarSample]) -> ShardIndex | None:
    """The index beside the tar, if it is of this tar: not older, same size, same byte ranges."""
    target = path.with_suffix(".idx")
    tar = path.stat()
    try:
        if target.stat().st_mtime_ns < tar.st_mtime_ns:
            return None
        index = read_index(target)
    except (FileNotFoundError, ShardError):
        return None
    ranges = [
        IndexRow(
            start=sample.start,
            parts={
                suffix: (member.start, member.length, 0)
                for suffix, member in sample.members.items()
                if member.length
            },
        )
        for sample in samples
    ]
    expected = build_index(ranges, samples[-1].stop, (tar.st_size, b""))
    same = index.parts == expected.parts and index.tar_bytes == expected.tar_bytes
    tables = ("sample_offsets", "part_offsets", "part_lengths")
    same = same and all(
        np.array_equal(getattr(index, name), getattr(expected, name)) for name in tables
    )
    return index if same else None
