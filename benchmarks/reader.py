"""How fast are raw samples read, shuffled, in one process with a warm cache?

    python benchmarks/reader.py --check

Reads samples of four parts and about 120 KB with `ShardReader` in the order that training uses,
every part's CRC32 checked, and the same samples with webdataset (the same tars, shards shuffled, a
shuffle buffer of 1,000), Mosaic Streaming and LitData (their own formats, written by their own
writers, shuffled; neither checks what it reads). The bare loop is one pread a sample and zlib's
CRC32 of each part over the same bytes in the same order, with everything looked up beforehand. The
bare loop with ISA-L is the same with the CRC32 that the reader uses, which is the harder measure.

Rounds are interleaved: each reads the whole set once with every reader, timed from the first sample
to the last. ``--check`` exits with 1 unless the medians meet the targets: 5x webdataset, 2.5x the
faster of Mosaic Streaming and LitData, 0.8 of the bare loop.

The peers are installed with (the first two would bring older NumPy and transformers else):

    pip install webdataset==1.0.2
    pip install --no-deps mosaicml-streaming==0.13.0 litdata==0.2.76
    pip install --no-deps brotli==1.2.1 catalogue==2.0.10 cramjam==2.14.0 \
        lightning-utilities==0.15.3 python-snappy==0.7.3 xxhash==4.1.0 zstd==1.5.7.2
"""

import argparse
import importlib
import os
import random
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from interleaved import (
    RESULTS,
    Target,
    exit_code,
    print_seconds,
    ratio_of,
    report,
    take_turns,
    versions,
)

from data_sharding.index import read_index
from data_sharding.manifest import Generation, ShardSet, write_manifest
from data_sharding.reading.reader import ShardReader
from data_sharding.schema import canonical_json
from data_sharding.stream.order import LaneOrder, OrderConfig, Slice
from data_sharding.writer import ShardWriter

SAMPLES_PER_SHARD = 500
BATCH = 64
CAPTION = b"A dog barks twice at a bicycle that leans on the wall of a red house. "
OURS, ISAL = "triptych", "bare loop, ISA-L"
TARGETS = [
    Target(ratio="times as fast as webdataset", least=5.0),
    Target(ratio="times as fast as faster peer", least=2.5),
    Target(ratio="times as fast as bare loop", least=0.8),
]

Pass = Callable[[], Iterable[Any]]
Members = dict[str, bytes]


def make_sample(number: int) -> Members:
    """Media of random bytes, 120 KB in all: nothing in the measurement can compress them."""
    rng = random.Random(number)
    return {
        "txt": CAPTION * rng.randint(1, 4),
        "jpg": rng.randbytes(rng.randint(50_000, 80_000)),
        "flac": rng.randbytes(rng.randint(40_000, 70_000)),
        "json": canonical_json({"id": f"sample-{number}", "labels": {}, "metadata": {}}),
    }


def peer(name: str) -> ModuleType:
    """Imports a peer, or ends with how to install it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"{name} is not installed ({error}); the script's docstring says how to")


def write_tars(folder: Path, num_samples: int) -> ShardSet:
    folder.mkdir()
    entries = []
    for number in range(num_samples // SAMPLES_PER_SHARD):
        with ShardWriter(folder, number) as writer:
            for row in range(SAMPLES_PER_SHARD):
                writer.add(make_sample(number * SAMPLES_PER_SHARD + row))
            entries.append(writer.publish(folder, "train"))
    write_manifest(folder, entries, [Generation(num_shards=len(entries))])
    return ShardSet.open(folder)


def write_mosaic(folder: Path, num_samples: int) -> None:
    columns = dict.fromkeys(make_sample(0), "bytes")
    with peer("streaming").MDSWriter(out=str(folder), columns=columns) as writer:
        for number in range(num_samples):
            writer.write(make_sample(number))


def write_litdata(folder: Path, num_samples: int) -> None:
    peer("litdata").optimize(
        fn=make_sample,
        inputs=list(range(num_samples)),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


def ours_pass(reader: ShardReader, order: LaneOrder) -> Iterator[Any]:
    """Every sample's worth of batches in training order."""
    part = Slice(global_batch=BATCH)
    for step in range(len(reader) // BATCH):
        for sample_id in order.batch(step, part).sample_ids.tolist():
            yield reader.read(sample_id)


def bare_pass(plan: list[Any], crc32: Callable[[memoryview], int]) -> Iterator[Any]:
    for descriptor, start, length, parts in plan:
        span = memoryview(os.pread(descriptor, length, start))
        for low, high, expected in parts:
            if crc32(span[low:high]) != expected:
                raise SystemExit("a CRC32 does not match")
        yield span


def bare_plan(shard_set: ShardSet, order: LaneOrder) -> list[Any]:
    """Descriptor, span and parts of each sample in the order of `ours_pass`."""
    tars = [os.open(shard_set.folder / entry.file, os.O_RDONLY) for entry in shard_set.shards]
    indexes = [read_index(shard_set.folder / entry.index_file) for entry in shard_set.shards]
    plan = []
    for step in range(shard_set.num_samples // BATCH):
        for sample_id in order.batch(step, Slice(global_batch=BATCH)).sample_ids.tolist():
            shard, row = divmod(sample_id, SAMPLES_PER_SHARD)
            parts = indexes[shard].parts_of(row, indexes[shard].parts)
            start, stop = parts[0].start, parts[-1].start + parts[-1].length
            ranges = [
                (part.start - start, part.start - start + part.length, part.crc32) for part in parts
            ]
            plan.append((tars[shard], start, stop - start, ranges))
    return plan


def webdataset_pass(shard_set: ShardSet) -> Iterable[Any]:
    urls = [str(shard_set.folder / entry.file) for entry in shard_set.shards]
    return peer("webdataset").WebDataset(urls, shardshuffle=100).shuffle(1000)


def contenders(folder: Path, num_samples: int) -> Mapping[str, Pass]:
    """Writes every format and opens every reader."""
    shard_set = write_tars(folder / "tars", num_samples)
    write_mosaic(folder / "mosaic", num_samples)
    write_litdata(folder / "litdata", num_samples)
    order = LaneOrder(shard_set.shard_sizes, OrderConfig())
    plan = bare_plan(shard_set, order)
    mosaic = peer("streaming").StreamingDataset(
        local=str(folder / "mosaic"), shuffle=True, batch_size=BATCH
    )
    litdata = peer("litdata").StreamingDataset(str(folder / "litdata"), shuffle=True)
    return {
        OURS: partial(ours_pass, ShardReader(shard_set), order),
        "bare loop": partial(bare_pass, plan, zlib.crc32),
        ISAL: partial(bare_pass, plan, peer("isal.isal_zlib").crc32),
        "webdataset": partial(webdataset_pass, shard_set),
        "mosaic": lambda: mosaic,
        "litdata": lambda: litdata,
    }


def whole_pass(samples: Pass) -> Callable[[], float]:
    """Seconds a sample, from the first sample to the last, so that nobody pays for starting."""

    def timed() -> float:
        stream = iter(samples())
        next(stream)
        began = time.perf_counter()
        count = sum(1 for _ in stream)
        return (time.perf_counter() - began) / count

    return timed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--samples", type=int, default=4000, help="a multiple of 500")
    parser.add_argument("--folder", type=Path, help="where the temporary data go")
    parser.add_argument("--out", type=Path, default=RESULTS / "reader.json")
    arguments = parser.parse_args()
    if arguments.samples < 2 * SAMPLES_PER_SHARD or arguments.samples % SAMPLES_PER_SHARD:
        parser.error(f"--samples must be a multiple of {SAMPLES_PER_SHARD}, at least two of them")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        passes = contenders(Path(folder), arguments.samples)
        seconds = take_turns(
            {name: whole_pass(samples) for name, samples in passes.items()}, arguments.rounds
        )
    print_seconds(seconds)
    pairs = zip(seconds["mosaic"], seconds["litdata"], strict=True)
    seconds["faster peer"] = [min(pair) for pair in pairs]
    ratios = {
        f"times as fast as {name}": ratio_of(seconds, name, OURS)
        for name in ("webdataset", "mosaic", "litdata", "faster peer", "bare loop", ISAL)
    }
    content = {
        "samples": arguments.samples,
        "sample_bytes": sum(map(len, make_sample(0).values())),
        "seconds_per_sample": seconds,
        "versions": versions("webdataset", "mosaicml-streaming", "litdata", "isal", "numpy"),
    }
    return exit_code(report(arguments.out, content, ratios, TARGETS), arguments.check)


if __name__ == "__main__":
    sys.exit(main())
