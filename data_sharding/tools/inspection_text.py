"""An inspection as text for the terminal."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data_sharding.schema import MODALITIES
from data_sharding.tools.inspection import Inspection
from data_sharding.tools.inspection_charts import short

MOST_ROWS = 12
MEASURES = (
    ("picture width", "width", "px"),
    ("picture height", "height", "px"),
    ("recording", "seconds", "s"),
    ("sample rate", "sample_rate_hz", "Hz"),
    ("channels", "channels", ""),
    ("text", "characters", "characters"),
)
"""Name, attribute of `SampleFacts`, unit."""


def describe(inspection: Inspection) -> str:
    """Everything that was found, about a screenful."""
    blocks = (_head(inspection), _parts(inspection), _measures(inspection), _words(inspection))
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block)


def bytes_short(count: float | int) -> str:
    """``1.5 MB``, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if count % 1 or unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.4g} TB"


def plain(text: str) -> str:
    """Text from data without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def measured_on(inspection: Inspection) -> str:
    """How many samples the measures come from."""
    seen, total = len(inspection.facts), inspection.shard_set.num_samples
    return "all samples" if seen == total else f"{seen} of {total} samples, spread evenly"


def quantiles(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Least, median, 95th percentile and greatest."""
    low, middle, high = np.percentile(values, [0, 50, 95])
    return float(low), float(middle), float(high), max(values)


def _head(inspection: Inspection) -> Iterator[str]:
    shards = inspection.shard_set
    num_bytes = sum(shard.bytes for shard in shards.shards)
    yield f"{shards.location}  digest {shards.digest[:12]}"
    yield (
        f"{shards.num_samples} samples in {len(shards.shards)} shards, {bytes_short(num_bytes)}; "
        f"licence {plain(shards.licence or 'not stated')}"
    )
    for split in sorted({shard.split for shard in shards.shards}):
        own = [shard for shard in shards.shards if shard.split == split]
        sizes = [shard.samples for shard in own]
        yield (
            f"  {plain(split)}: {sum(sizes)} samples in {len(own)} shards of {min(sizes)} to "
            f"{max(sizes)}, {bytes_short(sum(shard.bytes for shard in own))}"
        )
    for number, part in enumerate(shards.generations):
        files = ", ".join(plain(str(source.get("file"))) for source in part.sources[:3])
        more = f" and {len(part.sources) - 3} more" if len(part.sources) > 3 else ""
        yield (
            f"  generation {number}: {part.num_shards} shards from {files or 'unnamed'}{more}, "
            f"licence {plain(part.licence or 'not stated')}"
        )
    yield f"rejected: {_counts(shards.rejects) or 'no row'}"


def _parts(inspection: Inspection) -> Iterator[str]:
    shards = inspection.shard_set
    total = shards.num_samples
    present = shards.present
    for name in MODALITIES:
        count = present.get(name, 0)
        yield f"{name:<8} {count:>12}  {100 * count / max(total, 1):5.1f} %"
    read = f"{inspection.num_indexes} of {len(shards.shards)} indexes, spread evenly"
    if inspection.num_indexes < len(shards.shards):
        yield f"(what follows: {read})"
    yield "samples with " + (_counts(inspection.combinations) or "nothing")
    yield f"{'part':<8} {'samples':>12} {'bytes':>10} {'median':>10} {'95 %':>10}"
    for part in inspection.parts:
        sizes = (bytes_short(value) for value in (part.total, part.median, part.p95))
        yield f"{part.suffix:<8} {part.count:>12} " + " ".join(f"{size:>10}" for size in sizes)


def _measures(inspection: Inspection) -> Iterator[str]:
    yield f"measured on {measured_on(inspection)}:"
    heads = ("least", "median", "95 %", "greatest")
    yield f"{'':<16}" + "".join(f"{head:>10}" for head in heads)
    for name, attribute, unit in MEASURES:
        values = inspection.values(attribute)
        if values:
            row = "".join(f"{short(value):>10}" for value in quantiles(values))
            yield f"{name:<16}{row} {unit}"
    hours = sum(inspection.values("seconds")) / 3600
    if hours:
        yield f"{hours:.2f} hours of sound in the measured samples"
    broken = [suffix for fact in inspection.facts for suffix in fact.unreadable]
    if broken:
        yield f"headers that cannot be read: {len(broken)} ({', '.join(sorted(set(broken)))})"
    if inspection.faults:
        first = plain(inspection.faults[0])
        yield f"samples that cannot be read: {len(inspection.faults)}; the first: {first}"


def _words(inspection: Inspection) -> Iterator[str]:
    if inspection.languages:
        yield f"languages: {_counts(inspection.languages)}"
    for name, counts in list(inspection.labels.items())[:MOST_ROWS]:
        yield f"label {plain(name)}: {_counts(counts)}"


def _counts(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{plain(name)} {count}" for name, count in ranked[:MOST_ROWS])
    return shown + (f", and {len(ranked) - MOST_ROWS} more" if len(ranked) > MOST_ROWS else "")
