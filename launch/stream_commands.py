"""`triptych blend` and `triptych stream`: several sets as one stream, and its speed."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.reading.reader import ReaderConfig
from data_sharding.schema import DEFAULT_SPLIT
from data_sharding.stats import (
    TOKENIZER_FILE,
    CorpusStats,
    StatsConfig,
    compute_stats,
    stats_folder,
)
from data_sharding.storage import is_remote
from data_sharding.stream.loader import LoaderConfig, LoaderHealth, TripleLoader
from data_sharding.stream.order import OrderConfig, Slice
from data_sharding.stream.source import StreamSource, append_phase, open_stream, write_blend
from data_sharding.stream.substitution import FaultBudget
from pretrain.models import BackboneConfig
from pretrain.views import TrainCrops, ViewsConfig


@dataclass(frozen=True, kw_only=True)
class BlendCommand:
    """Stream several shard sets as one, each by its weight.

    The blend is a small folder that stands wherever a shard set's folder does for training: no
    shard is copied. Every global batch holds each set's share, rounded down or up by less than one
    sample. A new blend gets a vocabulary and statistics over all its sets.

      triptych blend mix shards/a=0.5 shards/b=0.3 s3://bucket/c=0.2

      triptych blend mix shards/a shards/b            (weights by number of samples)

      triptych blend mix --from-sample 500000 shards/a=0.2 shards/b=0.8
    """

    out: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OUT")]
    """Folder of the blend: a new one, or with --from-sample the one to change."""

    sets: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SET[=WEIGHT] ...")
    ]
    """Shard sets as LOCATION=WEIGHT, folders or URLs. Weights are relative: 4 and 6 mean the same
    as 0.4 and 0.6. Without any weight the sets count by their number of samples."""

    from_sample: int | None = None
    """Change the weights of an existing blend for all samples from this one on (counted over the
    whole run; `samples` in its metrics). What comes before stays on record and never changes. A set
    that is not named gets no more samples; a new one may join. The vocabulary stays."""

    split: str = DEFAULT_SPLIT
    """Split of every set."""

    stats: StatsConfig = field(default_factory=StatsConfig)
    """What is measured for a new blend."""


@dataclass(frozen=True, kw_only=True)
class StreamCommand:
    """Read and decode batches as training does, and say how fast.

    Cuts two views of every sample with the default sizes and throws them away. Where samples/s is
    below what training takes, give more workers, re-encode the media when they are sharded (see
    `triptych shard --help`) or, for remote shards, a cache (--reader.cache-folder). `waited` is
    near 100 % here, because nothing else is done; in training it should be near 0 %.

      triptych stream shards --batch 64 --workers 7 --seconds 20
    """

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")]
    """A shard set or a blend: a folder or a URL."""

    split: str = DEFAULT_SPLIT
    """Split to read."""

    stats: Path | None = None
    """Folder made by `triptych stats`; None is `stats` inside the source."""

    batch: int = 64
    """Samples in a batch."""

    seconds: float = 10.0
    """How long to read; Ctrl-C ends earlier."""

    line_seconds: float = 1.0
    """Time between two lines."""

    workers: int = 2
    """Processes that read and decode; 0 does it in this one."""

    prefetch_batches: int = 4
    """Batches that the workers together prepare ahead."""

    ledger: Path | None = None
    """File to record bad samples in, as JSON lines."""

    order: OrderConfig = field(default_factory=OrderConfig)
    """Constants of the sample order."""

    reader: ReaderConfig = field(default_factory=ReaderConfig)
    """How shards are read when storage is slow, far away or fails."""

    faults: FaultBudget = field(default_factory=FaultBudget)
    """How many bad samples are borne."""

    views: Annotated[ViewsConfig, tyro.conf.Suppress] = field(default_factory=ViewsConfig)
    backbone: Annotated[BackboneConfig, tyro.conf.Suppress] = field(default_factory=BackboneConfig)

    def __post_init__(self) -> None:
        if not self.seconds > 0.0 or not self.line_seconds > 0.0:
            raise ValueError("--seconds and --line-seconds must be positive")


def blend_command(arguments: list[str]) -> int:
    """`triptych blend`."""
    command = tyro.cli(BlendCommand, args=arguments, prog="triptych blend")
    weights = parse_weights(command.sets)
    if is_remote(command.out):
        raise ValueError(f"{command.out}: a blend is a local folder; its sets may be remote")
    out = Path(command.out)
    if command.from_sample is not None:
        source = append_phase(out, weights, command.from_sample, command.split)
    else:
        source = write_blend(out, weights, command.split)
        compute_stats(out, command.stats, split=command.split)
    for line in describe(source):
        print(line)
    if command.from_sample is not None:
        print("a run takes these weights up when it next starts or resumes")
    return 0


def stream_command(arguments: list[str]) -> int:
    """`triptych stream`."""
    command = tyro.cli(StreamCommand, args=arguments, prog="triptych stream")
    source = open_stream(command.source, command.split)
    for line in describe(source):
        print(line)
    loader = _build_loader(command, source)
    try:
        with closing(_timed(loader, command.seconds, command.line_seconds)) as lines:
            for seconds, health in lines:
                print(health_line(seconds, health), flush=True)
    except KeyboardInterrupt:
        print("stopped")
    finally:
        loader.close()
    return 0


def parse_weights(sets: tuple[str, ...]) -> dict[str, float | None]:
    """``LOCATION=WEIGHT`` or ``LOCATION`` -> location and weight.

    Raises:
        ValueError: A location is given twice, or a weight is no number.
    """
    weights: dict[str, float | None] = {}
    for text in sets:
        location, separator, weight = text.rpartition("=")
        if not separator or "/" in weight:  # a path with a = in it
            location, weight = text, None
        if not location:
            raise ValueError(f"{text!r} names no set; write SET=0.4")
        if location in weights:
            raise ValueError(f"{location} is given twice; a set has one weight")
        try:
            weights[location] = None if weight is None else float(weight)
        except ValueError as error:
            raise ValueError(f"{text!r}: {weight!r} is no weight; write {location}=0.4") from error
    return weights


def describe(source: StreamSource) -> Iterator[str]:
    """The sets of a stream, and their shares in each phase."""
    shares = [phase.shares() for phase in source.phases]
    for number, shard_set in enumerate(source.sets):
        parts = ", ".join(f"{float(share[number]):.1%}" for share in shares)
        of_stream = f", {parts} of the stream" if len(source.sets) > 1 else ""
        yield f"{shard_set.location}: {shard_set.num_samples} samples{of_stream}"
    if len(shares) > 1:
        starts = ", ".join(str(phase.from_sample) for phase in source.phases)
        yield f"the shares hold from samples {starts} on"


def health_line(seconds: float, health: LoaderHealth) -> str:
    """One line on the last stretch of a stream."""
    hits = health.cache_hit_share
    parts = [
        f"{seconds:6.1f} s",
        f"{health.samples_per_second:8.1f} samples/s",
        f"{health.megabytes_per_second:7.1f} MB/s read",
        f"waited {health.wait_share:4.0%}",
        f"cache hits {'-' if hits is None else f'{hits:.0%}'}",
        f"{health.retries} retries",
        f"{health.substitutions} replaced",
    ]
    if len(health.set_shares) > 1:
        parts.append("sets " + " ".join(f"{share:.1%}" for share in health.set_shares))
    return "  ".join(parts)


def _build_loader(command: StreamCommand, source: StreamSource) -> TripleLoader:
    folder = stats_folder(command.source, command.stats)
    rate = CorpusStats.load(folder).log_mel.sample_rate_hz
    return TripleLoader(
        source,
        Decoder(folder / TOKENIZER_FILE, DecodeConfig(sample_rate_hz=rate, alternatives=True)),
        TrainCrops.from_configs(
            command.views, command.backbone, folder / TOKENIZER_FILE, rate, command.order.seed
        ),
        Slice(global_batch=command.batch),
        LoaderConfig(
            num_workers=command.workers,
            prefetch_batches=command.prefetch_batches,
            order=command.order,
            reader=command.reader,
            faults=command.faults,
        ),
        command.ledger,
    )


def _timed(
    loader: TripleLoader, seconds: float, line_seconds: float
) -> Generator[tuple[float, LoaderHealth], None, None]:
    """Takes batches for some seconds from the first one on; the health of each stretch."""
    stream = loader.batches()
    next(stream)
    loader.health()  # the start of the workers is not measured
    began = said = time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        if now - said >= line_seconds:
            yield now - began, loader.health()
            said = now
        next(stream)
    yield now - began, loader.health()
