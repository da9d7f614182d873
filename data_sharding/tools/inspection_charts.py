"""Bars as inline SVG: they take their colours from the page, so they follow light and dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 440, 190
LEFT, BOTTOM, TOP = 8.0, 22.0, 8.0
NUM_BINS = 32
MOST_BARS = 14
ROW = 26


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values in bins of one width.

    Attributes:
        counts: Values in each bin.
        low: Where the first bin begins.
        high: Where the last one ends.
        log: Whether the axis is logarithmic (low and high stay plain values).
    """

    counts: Sequence[int]
    low: float
    high: float
    log: bool


def histogram(values: Sequence[float]) -> Histogram:
    """Bins for at least one value; logarithmic where values span over a factor of 50."""
    low, high = min(values), max(values)
    log = low > 0 and high / low > 50
    drawn = np.log10(values) if log else np.asarray(values, dtype=float)
    bins = NUM_BINS if high > low else 1
    counts, edges = np.histogram(drawn, bins=bins)
    first, last = (10.0 ** edges[0], 10.0 ** edges[-1]) if log else (edges[0], edges[-1])
    return Histogram(counts=counts.tolist(), low=float(first), high=float(last), log=log)


def draw_histogram(title: str, values: Sequence[float], unit: str) -> Markup:
    """A histogram with its range below."""
    bins = histogram(values)
    top = max(bins.counts)
    step = (WIDTH - 2 * LEFT) / len(bins.counts)
    parts = []
    for place, count in enumerate(bins.counts):
        height = (HEIGHT - BOTTOM - TOP) * count / top
        parts.append(
            Markup(
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                "<title>{}</title></rect>"
            ).format(
                LEFT + place * step + 0.5, HEIGHT - BOTTOM - height, max(step - 1.0, 0.5), height,
                f"{count} in {_edge(bins, place)} to {_edge(bins, place + 1)} {unit}",
            )
        )  # fmt: skip
    marks = [(0.0, "start"), (0.5, "middle"), (1.0, "end")]
    for share, anchor in marks if len(bins.counts) > 1 else marks[1:2]:
        text = short(_at(bins, share)) + (f" {unit}" if unit and share == marks[-1][0] else "")
        parts.append(
            Markup('<text class="tick" text-anchor="{}" x="{:.1f}" y="{}">{}</text>').format(
                anchor, LEFT + share * (WIDTH - 2 * LEFT), HEIGHT - 5, text
            )
        )
    return _svg(title, parts, HEIGHT)


def draw_counts(title: str, counts: Mapping[str, int]) -> Markup:
    """Horizontal bars, the largest first; what does not fit is summed up in words."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ranked[:MOST_BARS], ranked[MOST_BARS:]
    most = max(count for _, count in shown)
    parts = []
    for place, (name, count) in enumerate(shown):
        y = place * ROW
        parts.append(
            Markup(
                '<text class="name" x="0" y="{}">{}</text>'
                '<rect class="bar" x="176" y="{}" width="{:.1f}" height="14" rx="2"/>'
                '<text class="tick" x="{:.1f}" y="{}">{}</text>'
            ).format(
                y + 16, name if len(name) <= 24 else name[:23] + "…", y + 5,
                max(200.0 * count / most, 1.0), 182 + max(200.0 * count / most, 1.0), y + 16,
                f"{count:,}",
            )
        )  # fmt: skip
    if rest:
        text = f"and {len(rest)} more, {sum(count for _, count in rest):,} together"
        parts.append(
            Markup('<text class="tick" x="0" y="{}">{}</text>').format(len(shown) * ROW + 16, text)
        )
    return _svg(title, parts, ROW * (len(shown) + bool(rest)) + 4)


def short(value: float | int) -> str:
    """A number as short as an axis wants it."""
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    for least, factor, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= least:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _edge(bins: Histogram, place: int) -> str:
    return short(_at(bins, place / len(bins.counts)))


def _at(bins: Histogram, share: float) -> float:
    if bins.log:
        return bins.low * (bins.high / bins.low) ** share
    return bins.low + share * (bins.high - bins.low)


def _svg(title: str, parts: Sequence[Markup], height: int) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, title, Markup("").join(parts)
    )
