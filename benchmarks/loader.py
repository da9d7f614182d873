"""End to end against a bare loop: read, check, decode and cut two views of each sample, per core.

The bare loop decodes and cuts the same bytes, already in memory, in one process. `inline` is the
loader without workers; `worker` is one worker process that does all the work on one core, while the
training process only takes the batches. Target: each at least 0.9 of the bare loop.

    python benchmarks/loader.py --check
    python benchmarks/loader.py --shards SHARDS     (a set of one's own, with its statistics)
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from generated_media import write_media
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
from PIL import Image

from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.reading.reader import ShardReader
from data_sharding.schema import RawSample
from data_sharding.stats import CorpusStats, StatsConfig, compute_stats
from data_sharding.stream.loader import LoaderConfig, TripleLoader
from data_sharding.stream.order import OrderConfig, Slice
from data_sharding.stream.source import StreamSource, open_stream
from pretrain.models import BackboneConfig
from pretrain.views import TrainCrops, ViewsConfig

BATCH = 32
ORDER = OrderConfig(block_samples=8, window_blocks=4, lanes=4)


def as_sharded(fields: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture as sharding leaves it, with a short side of 288."""
    return fields.resize((384, 288), Image.Resampling.BICUBIC)


@contextmanager
def shards_of(given: Path | None, count: int) -> Iterator[Path]:
    """The given set, or one of generated media."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as scratch:
        corpus, out = Path(scratch) / "corpus", Path(scratch) / "shards"
        corpus.mkdir()
        write_media(corpus, count, as_sharded)
        shard_corpus(corpus, out, ShardingConfig(samples_per_shard=64))
        compute_stats(out, StatsConfig())
        yield out


class EndToEnd:
    """The three ways to the same tensors."""

    def __init__(self, folder: Path, batches: int) -> None:
        stats = CorpusStats.load(folder / "stats")
        rate = stats.log_mel.sample_rate_hz
        self.source: StreamSource = open_stream(folder)
        tokenizer_file = folder / "stats" / "tokenizer.json"
        self.decoder = Decoder(tokenizer_file, DecodeConfig(sample_rate_hz=rate))
        self.cut = TrainCrops.from_configs(ViewsConfig(), BackboneConfig(), tokenizer_file, rate, 0)
        self.batches = batches
        self._raw = self._read_all(batches * BATCH)
        self._worker = self.loader(1)
        self._stream = self._worker.batches()
        next(self._stream)

    def loader(self, num_workers: int) -> TripleLoader:
        """The loader with the settings of this benchmark."""
        config = LoaderConfig(num_workers=num_workers, prefetch_batches=2, order=ORDER)
        return TripleLoader(self.source, self.decoder, self.cut, Slice(global_batch=BATCH), config)

    def bare(self) -> int:
        """Decodes and cuts bytes in memory."""
        for raw in self._raw:
            self.cut(self.decoder.decode(raw))
        return len(self._raw)

    def inline(self) -> int:
        """The loader in this process."""
        loader = self.loader(0)
        for batch in itertools.islice(loader.batches(), self.batches):
            assert len(batch) == BATCH
        loader.close()
        return self.batches * BATCH

    def worker(self) -> int:
        """One worker process, already running and with its queue empty."""
        for _ in range(2):  # what it prepared while others had their turn
            next(self._stream)
        for _ in range(self.batches):
            next(self._stream)
        return self.batches * BATCH

    def close(self) -> None:
        """Ends the worker."""
        self._worker.close()

    def _read_all(self, count: int) -> list[RawSample]:
        reader = ShardReader(self.source.sets)
        ids = [number % len(reader) for number in range(count)]
        return [reader.read(sample_id) for sample_id in ids]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=Path, help="a shard set with statistics")
    parser.add_argument("--samples", type=int, default=256, help="generated without --shards")
    parser.add_argument("--batches", type=int, default=12, help="batches of 32 in each round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--out", type=Path, default=RESULTS / "loader.json")
    options = parser.parse_args()
    torch.set_num_threads(1)  # per core: workers have one thread each
    with shards_of(options.shards, options.samples) as folder:
        runs = EndToEnd(folder, options.batches)
        candidates = {"bare": runs.bare, "inline": runs.inline, "worker": runs.worker}
        seconds = time_rounds(candidates, options.rounds)
        runs.close()
    print_seconds(seconds)
    ratios = {
        "inline / bare loop": ratio_of(seconds, "bare", "inline"),
        "one worker / bare loop": ratio_of(seconds, "bare", "worker"),
    }
    content = {
        "versions": versions("torch", "torchvision", "soundfile", "tokenizers"),
        "shards": str(options.shards or "generated"),
        "seconds_per_sample": seconds,
    }
    targets = [Target(ratio=name, least=0.9) for name in ratios]
    return exit_code(report(options.out, content, ratios, targets), options.check)


if __name__ == "__main__":
    sys.exit(main())
