"""A million samples from a small set: memory of the loader and its workers over time.

Raw reads with every CRC checked, a decode of the text alone and a transform that costs nothing, so
that a million samples take minutes. `--check` fails where memory after the run is more than 5 %
above what it was after a tenth of it.

    python benchmarks/soak.py --check
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import torch
from generated_media import write_media
from interleaved import RESULTS, exit_code, versions
from loader import as_sharded

from data_sharding.batch import DecodedSample, SampleTensors
from data_sharding.decode import Decoder
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.schema import RawSample
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.stream.loader import LoaderConfig, TripleLoader
from data_sharding.stream.order import OrderConfig, Slice

BATCH = 256
MAX_GROWTH = 0.05
NUM_LINES = 20


class TextAlone(Decoder):
    """Leaves pictures and recordings as the bytes they are."""

    def decode(self, raw: RawSample, epoch: int = 0) -> DecodedSample:
        """Decodes the text of a sample."""
        text = {name: part for name, part in raw.members.items() if name == "txt"}
        members = RawSample(shard=raw.shard, key=raw.key, sample_id=raw.sample_id, members=text)
        return super().decode(members, epoch)


class Cheap:
    """Tensors of a training sample's kinds, and almost no work."""

    def __call__(self, sample: DecodedSample) -> SampleTensors:
        """Zeros, whatever the sample."""
        return SampleTensors(
            token_ids=torch.zeros(2, 16, dtype=torch.int64),
            token_mask=torch.zeros(2, 16, dtype=torch.bool),
            image=torch.zeros(2, 3, 16, 16, dtype=torch.uint8),
            waveform=torch.zeros(2, 256),
        )


def megabytes_of(pid: int) -> float:
    """Memory of a process that is its own: shared pages are divided by their users."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{pid}/smaps_rollup has no Pss")


def measure() -> dict[str, float]:
    """Memory of the training process and of all workers together, in MB."""
    workers = [worker.pid for worker in multiprocessing.active_children() if worker.pid]
    return {
        "loader": megabytes_of(multiprocessing.current_process().pid or 0),
        "workers": sum(megabytes_of(pid) for pid in workers),
    }


def soak(folder: Path, samples: int, num_workers: int) -> list[dict[str, float]]:
    """Streams so many samples; memory at even distances."""
    loader = TripleLoader(
        ShardSet.open(folder, "train"),
        TextAlone(folder / "stats" / "tokenizer.json"),
        Cheap(),
        Slice(global_batch=BATCH),
        LoaderConfig(
            num_workers=num_workers, order=OrderConfig(block_samples=8, window_blocks=4, lanes=4)
        ),
    )
    batches, seen = -(-samples // BATCH), []
    began = time.perf_counter()
    for number, _ in enumerate(loader.batches(), 1):
        if number % max(1, batches // NUM_LINES) == 0:
            seen.append({"samples": float(number * BATCH), **measure()})
            health = loader.health()
            print(
                f"{time.perf_counter() - began:7.1f} s  {number * BATCH:9d} samples  "
                f"{health.samples_per_second:8.0f} samples/s  "
                f"loader {seen[-1]['loader']:.1f} MB  workers {seen[-1]['workers']:.1f} MB",
                flush=True,
            )
        if number == batches:
            break
    loader.close()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--check", action="store_true", help="exit 1 where memory grows")
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpus, out = Path(scratch) / "corpus", Path(scratch) / "shards"
        corpus.mkdir()
        write_media(corpus, 128, as_sharded)
        shard_corpus(corpus, out, ShardingConfig(samples_per_shard=32))
        compute_stats(out, StatsConfig())
        seen = soak(out, options.samples, options.workers)
    start = seen[min(len(seen) // 10, len(seen) - 1)]
    growth = {name: seen[-1][name] / start[name] - 1 for name in ("loader", "workers")}
    for name, share in growth.items():
        print(f"{name}: {share:+.1%} since {start['samples']:.0f} samples (at most +5 %)")
    met = all(share <= MAX_GROWTH for share in growth.values())
    content = {"versions": versions("torch"), "megabytes": seen, "growth": growth, "met": met}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1) + "\n")
    return exit_code(met, options.check)


if __name__ == "__main__":
    sys.exit(main())
