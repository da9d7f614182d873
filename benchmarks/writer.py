"""Writing shards: CRC32 of every part, sha256 and index, against webdataset.ShardWriter's tar.

Both write the same samples (random bytes: text, JPEG-sized, FLAC-sized and JSON parts of about
120 KB together) to the same folder, in one process, by turns. "durable" is our writer as
`triptych shard` uses it, with an fsync of tar, index and folder; "without fsync" is the same with
the fsync left out, which webdataset never does. The samples are all of one shard.

    python benchmarks/writer.py [--samples 1000] [--rounds 9] [--check]
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from interleaved import (
    RESULTS,
    Target,
    exit_code,
    print_seconds,
    ratio_of,
    report,
    time_rounds,
    versions,
)

from data_sharding.writer import ShardWriter

PART_BYTES = {"txt": 100, "jpg": 70_000, "flac": 50_000, "json": 200}
OURS, UNSYNCED, PEER = "triptych (durable)", "triptych (without fsync)", "webdataset.ShardWriter"
TARGETS = (Target(ratio="triptych (durable) over webdataset", least=1.5),)

Sample = dict[str, bytes]


def make_samples(count: int) -> list[Sample]:
    """Random parts, a tenth larger or smaller than `PART_BYTES`."""
    rng = np.random.default_rng(0)
    return [
        {name: rng.bytes(int(size * rng.uniform(0.9, 1.1))) for name, size in PART_BYTES.items()}
        for _ in range(count)
    ]


def write_ours(folder: Path, samples: list[Sample]) -> int:
    with ShardWriter(folder, 0) as writer:
        for sample in samples:
            writer.add(sample)
        writer.publish(folder, "train")
    return len(samples)


def write_unsynced(folder: Path, samples: list[Sample]) -> int:
    with no_fsync():
        return write_ours(folder, samples)


def write_webdataset(folder: Path, samples: list[Sample]) -> int:
    try:
        import webdataset
    except ImportError as error:
        raise SystemExit("this compares with webdataset: pip install webdataset==1.0.2") from error
    pattern, most = str(folder / "peer-%06d.tar"), len(samples) + 1
    with webdataset.ShardWriter(pattern, maxcount=most, maxsize=2**40, verbose=0) as writer:
        for number, sample in enumerate(samples):
            writer.write({"__key__": f"000000-{number:06d}", **sample})
    return len(samples)


@contextmanager
def no_fsync() -> Iterator[None]:
    real, os.fsync = os.fsync, lambda descriptor: None
    try:
        yield
    finally:
        os.fsync = real


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's own")
    parser.add_argument("--out", type=Path, default=RESULTS / "writer.json")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    given = parser.parse_args()
    samples = make_samples(given.samples)
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    candidates = {
        OURS: lambda: write_ours(folder, samples),
        UNSYNCED: lambda: write_unsynced(folder, samples),
        PEER: lambda: write_webdataset(folder, samples),
    }
    try:
        seconds = time_rounds(candidates, given.rounds)
    finally:
        shutil.rmtree(folder)
    print_seconds(seconds)
    ratios = {
        f"{OURS} over webdataset": ratio_of(seconds, PEER, OURS),
        f"{UNSYNCED} over webdataset": ratio_of(seconds, PEER, UNSYNCED),
    }
    content = {
        "versions": versions("webdataset", "numpy"),
        "samples": given.samples,
        "bytes_per_sample": sum(sum(map(len, sample.values())) for sample in samples)
        // given.samples,
        "fsync": {OURS: "tar, index, folder", UNSYNCED: "none", PEER: "none"},
        "seconds_per_sample": seconds,
    }
    return exit_code(report(given.out, content, ratios, TARGETS), given.check)


if __name__ == "__main__":
    sys.exit(main())
