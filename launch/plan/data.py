"""What the run reads: whether it is there, whether it is enough."""

import os
from collections import Counter
from dataclasses import dataclass

from data_sharding.manifest import ShardSet, sum_counts
from data_sharding.schema import MODALITIES
from data_sharding.stats import CorpusStats
from data_sharding.storage import is_remote, join, size
from data_sharding.stream.blend import BlendOrder
from data_sharding.stream.source import StreamSource, open_stream
from launch.plan.chapter import Chapter, gigabytes
from launch.run_config import RunConfig


@dataclass(frozen=True)
class Corpus:
    """What could be opened of the run's data; None for what could not."""

    source: StreamSource | None
    stats: CorpusStats | None

    @property
    def complete(self) -> bool:
        """Whether every sample is known to have every modality."""
        return self.source is not None and all(
            shard_set.present.get(name) == shard_set.num_samples
            for shard_set in self.source.sets
            for name in MODALITIES
        )


def data_chapter(config: RunConfig) -> tuple[Chapter, Corpus]:
    """Shards and statistics of a run."""
    chapter = Chapter("Data")
    data, pretrain = config.pretrain.data, config.pretrain
    source = stats = None
    with chapter.finding_errors():
        source = open_stream(data.shards, data.split)
        _tell_source(chapter, config, source)
        for shard_set in source.sets:
            _find_unreadable(chapter, shard_set)
        _find_too_few(chapter, config, source)
    with chapter.finding_errors():
        stats = CorpusStats.load(data.stats_folder)
        chapter.tell(
            "statistics",
            f"{data.stats_folder}: {stats.vocab_size:,} word pieces, {stats.log_mel.num_mels} mel "
            f"channels at {stats.log_mel.sample_rate_hz / 1000:g} kHz, "
            f"of {stats.num_samples:,} samples",
        )
        pretrain.check_spectrogram(stats.log_mel)
    return chapter, Corpus(source, stats)


def _tell_source(chapter: Chapter, config: RunConfig, source: StreamSource) -> None:
    data = config.pretrain.data
    shards = [shard for shard_set in source.sets for shard in shard_set.shards]
    sets = f" of {len(source.sets)} sets" if len(source.sets) > 1 else ""
    chapter.tell(
        "shards",
        f"{data.shards}, split {data.split}: {source.num_samples:,} samples in {len(shards):,} "
        f"shard{'s' * (len(shards) > 1)}{sets}, {gigabytes(sum(shard.bytes for shard in shards))}",
    )
    present = sum_counts([shard_set.present for shard_set in source.sets])
    if lacking := [name for name in MODALITIES if present.get(name, 0) < source.num_samples]:
        shares = (f"{name} {present.get(name, 0) / source.num_samples:.0%}" for name in lacking)
        chapter.tell("lacking", f"not every sample has all modalities: {', '.join(shares)}")
    held_out = sorted({s for shard_set in source.sets for s in shard_set.splits} - {data.split})
    chapter.tell("held out", ", ".join(held_out) or "no other split")
    seen = config.pretrain.total_steps * config.pretrain.batch.global_samples
    chapter.tell(
        "epochs",
        f"{_epochs(seen / source.num_samples)} in the run ({seen:,} samples); samples, not "
        "shards, are dealt out, to any number of ranks and workers",
    )


def _epochs(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def _find_unreadable(chapter: Chapter, shard_set: ShardSet) -> None:
    """Every local shard by its size; of a remote set the first, whose server is then known."""
    remote = is_remote(shard_set.location)
    wrong: Counter[str] = Counter()
    first: dict[str, str] = {}
    for shard in shard_set.shards[: 1 if remote else None]:
        for name in (shard.file, shard.index_file):
            location = join(shard_set.location, name)
            reason = _reason(location, shard.bytes if name == shard.file else None, remote)
            if reason is not None:
                wrong[reason] += 1
                first.setdefault(reason, location)
    for reason, count in wrong.items():
        more = f" (and {count - 1} more)" if count > 1 else ""
        chapter.find(
            f"{first[reason]}{more}: {reason}; bring it back, or see all with "
            f"`triptych verify {shard_set.location}`"
        )


def _reason(location: str, expected: int | None, remote: bool) -> str | None:
    try:
        found = size(location)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"cannot be read ({error})"
    if not remote and not os.access(location, os.R_OK):
        return "may not be read"
    if expected is not None and found != expected:
        return f"not the {expected:,} bytes that the manifest says"
    return None


def _find_too_few(chapter: Chapter, config: RunConfig, source: StreamSource) -> None:
    batch = config.pretrain.batch.global_samples
    if source.num_samples < batch:
        chapter.find(
            f"{config.pretrain.data.shards} has {source.num_samples:,} samples, less than one "
            f"global batch of {batch:,}: a step would see some of them twice; shard more, or set "
            f"pretrain.batch.global_samples to {source.num_samples} or less"
        )
    sizes = [shard_set.shard_sizes for shard_set in source.sets]
    order = BlendOrder(sizes, source.phases, config.pretrain.data.loader.order, batch)
    del order  # made to have it refuse too few blocks for its lanes
