"""An inspection as one HTML page: self-contained, for a phone and a desk, in light and dark."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from data_sharding.durable import write_durably
from data_sharding.progress import track
from data_sharding.tools.inspection import Inspection, read_samples
from data_sharding.tools.inspection_cards import HEARD_SECONDS, make_card
from data_sharding.tools.inspection_charts import draw_counts, draw_histogram, short
from data_sharding.tools.inspection_text import MEASURES, bytes_short, measured_on, quantiles

TEMPLATES = Path(__file__).parent / "templates"
MOST_LABELS = 12
FEW_VALUES = 6
"""Up to so many different values are counted one by one."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart with its heading and a line of numbers."""

    title: str
    note: str
    svg: Markup


def write_sheet(inspection: Inspection, path: Path) -> Path:
    """Writes the page.

    Returns:
        `path`.

    Raises:
        ShardError: A shard cannot be had.
        OSError: `path` cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, render(inspection).encode("utf-8", "replace"))
    return path


def render(inspection: Inspection) -> str:
    """The page; everything that comes from data is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((TEMPLATES / "inspect.html").read_text("utf-8"))
    samples = read_samples(inspection.shard_set, inspection.shown)
    return template.render(
        set=inspection.shard_set,
        style=Markup((TEMPLATES / "inspect.css").read_text("utf-8")),
        facts=list(_facts(inspection)),
        parts=inspection.parts,
        panels=[*_measures(inspection), *_counts(inspection)],
        cards=[make_card(sample) for sample in track(samples, "decoding", len(inspection.shown))],
        faults=inspection.faults,
        measured_on=measured_on(inspection),
        num_indexes=inspection.num_indexes,
        heard_seconds=HEARD_SECONDS,
        bytes_short=bytes_short,
    )


def _facts(inspection: Inspection) -> Iterator[tuple[str, str]]:
    """The tiles at the top: label and value."""
    shards = inspection.shard_set
    yield "samples", f"{shards.num_samples:,}"
    for name, count in shards.present.items():
        share = 100 * count / max(shards.num_samples, 1)
        yield f"with {name}", f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"
    yield "shards", f"{len(shards.shards):,}"
    yield "size", bytes_short(sum(shard.bytes for shard in shards.shards))
    yield "rejected", f"{sum(shards.rejects.values()):,}"


def _measures(inspection: Inspection) -> Iterator[Panel]:
    for name, attribute, unit in MEASURES:
        values = inspection.values(attribute)
        if not values:
            continue
        kinds = Counter(f"{short(value)} {unit}".strip() for value in values)
        low, middle, high, most = (short(value) for value in quantiles(values))
        note = f"{low} to {most} {unit}; median {middle}, 95 % below {high}"
        if len(kinds) <= FEW_VALUES:
            yield Panel(title=name, note=_sum(kinds), svg=draw_counts(name, kinds))
        else:
            yield Panel(title=name, note=note, svg=draw_histogram(name, values, unit))


def _counts(inspection: Inspection) -> Iterator[Panel]:
    tables = {
        "modalities of a sample": inspection.combinations,
        "languages": inspection.languages,
        "rejected rows": inspection.shard_set.rejects,
        **{
            f"label {name}": counts
            for name, counts in list(inspection.labels.items())[:MOST_LABELS]
        },
    }
    for title, counts in tables.items():
        if counts:
            yield Panel(title=title, note=_sum(counts), svg=draw_counts(title, counts))


def _sum(counts: Mapping[str, int]) -> str:
    """``477, of 8 kinds``."""
    return f"{sum(counts.values()):,}, of {len(counts)} kind{'s' if len(counts) > 1 else ''}"
