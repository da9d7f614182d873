"""Charts as inline SVG: they take their colours from the page, so they follow light and dark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 46.0, 12.0, 10.0, 30.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Band:
    """A stretch of the value axis that is worth a colour, such as what healthy looks like."""

    low: float
    high: float
    kind: str
    """``good`` or ``bad``: class names of the page's style sheet."""
    label: str


@dataclass(frozen=True, kw_only=True)
class LineChart:
    """Series over optimizer steps."""

    title: str
    series: Mapping[str, Points]
    """By name: (step, value), ascending; values that are not finite are left out."""
    note: str = ""
    bands: Sequence[Band] = field(default_factory=tuple)
    from_zero: bool = True
    """Whether the value axis starts at 0."""
    spans: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)
    """By series: (step, low, high), such as intervals; drawn as a ribbon."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """By series: class name of the page's style sheet; else the series are numbered."""

    def kind(self, name: str) -> str:
        """Class name of a series."""
        return self.kinds.get(name, f"s{list(self.series).index(name)}")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Linear map from values to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Pixel of a value, held inside the frame."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)


def draw_lines(chart: LineChart) -> Markup:
    """The chart as ``<svg>``; an empty one says so in words."""
    series = {
        name: [(x, y) for x, y in points if math.isfinite(y)]
        for name, points in chart.series.items()
    }
    series = {name: points for name, points in series.items() if points}
    if not series:
        return Markup('<p class="empty">Nothing was logged.</p>')
    across, up = _scales(chart, series)
    # A band far from the data does not stretch the axis: the curve is what is looked at.
    bands = [band for band in chart.bands if band.low < up.high and band.high > up.low]
    parts = [_bands(bands, up), _grid(across, up), _labels(bands, up)]
    scales = across, up
    parts += [_ribbon(chart.spans.get(name, ()), chart.kind(name), scales) for name in series]
    parts += [_line(name, points, chart.kind(name), scales) for name, points in series.items()]
    return svg(chart.title, parts, HEIGHT)


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``."""
    raw = (high - low) / max(count - 1, 1)
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * unit >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def short(value: float) -> str:
    """A number as short as an axis wants it."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        thousands = value / 1000
        return f"{thousands:.0f}k" if thousands == round(thousands) else f"{thousands:.1f}k"
    if abs(value) < 0.001:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{value:.4g}"


def _scales(chart: LineChart, series: Mapping[str, Points]) -> tuple[Scale, Scale]:
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    ys += [end for name in series for _, *ends in chart.spans.get(name, ()) for end in ends]
    low, high = (min(0.0, *ys) if chart.from_zero else min(ys)), max(ys)
    if high - low < 1e-12:
        low, high = low - max(abs(low), 1e-6) * 0.5, high + max(abs(high), 1e-6) * 0.5
    margin = 0.04 * (high - low)
    low = low if chart.from_zero and low == 0.0 else low - margin
    stop = max(xs) if max(xs) > min(xs) else min(xs) + 1.0
    return (
        Scale(low=min(xs), high=stop, start=LEFT, stop=WIDTH - RIGHT),
        Scale(low=low, high=high + margin, start=HEIGHT - BOTTOM, stop=TOP),
    )


def _grid(across: Scale, up: Scale) -> Markup:
    parts: list[Markup] = []
    for value in ticks(up.low, up.high):
        y = f"{up(value):.1f}"
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                LEFT, WIDTH - RIGHT, y, y
            )
            + Markup('<text class="tick" text-anchor="end" x="{}" y="{:.1f}">{}</text>').format(
                LEFT - 6, up(value) + 4, short(value)
            )
        )
    for value in ticks(across.low, across.high):
        parts.append(
            Markup('<text class="tick" text-anchor="middle" x="{:.1f}" y="{}">{}</text>').format(
                across(value), HEIGHT - BOTTOM + 17, short(value)
            )
        )
    return Markup("").join(parts)


def _bands(bands: Sequence[Band], up: Scale) -> Markup:
    parts = []
    for band in bands:
        top, bottom = up(min(band.high, up.high)), up(max(band.low, up.low))
        parts.append(
            Markup('<rect class="band {}" x="{}" y="{:.1f}" width="{}" height="{:.1f}"/>').format(
                band.kind, LEFT, top, WIDTH - RIGHT - LEFT, max(bottom - top, 0.0)
            )
        )
    return Markup("").join(parts)


def _labels(bands: Sequence[Band], up: Scale) -> Markup:
    parts = []
    for band in bands:
        y = up(max(band.low, up.low)) - 5
        parts.append(
            Markup(
                '<text class="bandname {}" text-anchor="end" x="{}" y="{:.1f}">{}</text>'
            ).format(band.kind, WIDTH - RIGHT - 4, y, band.label)
        )
    return Markup("").join(parts)


def _line(name: str, points: Points, kind: str, scales: tuple[Scale, Scale]) -> Markup:
    across, up = scales
    shown = _thinned(points)
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in shown)
    last_x, last_y = shown[-1]
    return Markup(
        '<g class="series {}"><title>{}: {} at step {}</title>'
        '<polyline points="{}"/><circle cx="{:.1f}" cy="{:.1f}" r="2.6"/></g>'
    ).format(kind, name, f"{last_y:.4g}", short(last_x), path, across(last_x), up(last_y))


def _ribbon(
    spans: Sequence[tuple[float, float, float]], kind: str, scales: tuple[Scale, Scale]
) -> Markup:
    """An area between the ends, and a whisker at each."""
    across, up = scales
    if not spans:
        return Markup("")
    around = [(x, high) for x, _, high in spans] + [(x, low) for x, low, _ in reversed(spans)]
    area = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in around)
    whiskers = " ".join(f"M{across(x):.1f} {up(low):.1f}V{up(high):.1f}" for x, low, high in spans)
    return Markup('<g class="ribbon {}"><polygon points="{}"/><path d="{}"/></g>').format(
        kind, area, whiskers
    )


def _thinned(points: Points, limit: int = 400) -> Points:
    """Means of equal stretches where there are more points than pixels; the last one stays."""
    if len(points) <= limit:
        return points
    size = -(-len(points) // limit)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    ]
    return [*means, points[-1]]


def svg(title: str, parts: Sequence[Markup], height: int, width: int = WIDTH) -> Markup:
    """The drawing as a whole, read out by its title."""
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">'
        "{}</svg>"
    ).format(width, height, escape(title), Markup("").join(parts))
