"""Forest plots as inline SVG: a dot for each score or difference, a line for its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from eval.pages.charts import RIGHT, WIDTH, Scale, short, svg, ticks

LEFT = 164.0
"""Where the axis begins; labels stand before it."""
LONGEST = 24
"""Characters of a label that have room there."""
LINE, GAP, AXIS = 17, 12, 20
"""Heights: of a mark, between blocks, and of the axis' numbers."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One score of a forest plot: a dot, and its interval where there is one."""

    label: str
    kind: str
    """Class name: ``floor``, ``random``, ``pretrained``, or ``s0``, ``s1``, ... of a series."""
    value: float
    low: float | None
    high: float | None


def draw_forest(title: str, rows: Mapping[str, Sequence[Mark]], percent: bool = True) -> Markup:
    """Scores, a block of rows for each representation, one line for each mark.

    Args:
        title: Read out in place of the chart.
        rows: Marks by representation. The axis holds 0, and all of them.
        percent: Whether values are shares, told in percent; else they are told as they are.
    """
    marks = [mark for block in rows.values() for mark in block]
    if not marks:
        return Markup('<p class="empty">No probe was run.</p>')
    height = 8 + sum((len(block) + 1) * LINE + GAP for block in rows.values()) + AXIS
    across = _axis(marks)
    parts = [_grid(across, height, 100.0 if percent else 1.0)]
    y = 8.0
    for name, block in rows.items():
        parts.append(Markup('<text class="block" x="0" y="{:.1f}">{}</text>').format(y + 13, name))
        y += LINE
        for mark in block:
            parts.append(_draw(mark, _told(mark, percent, across.low < 0.0), across, y + 9))
            y += LINE
        y += GAP
    return svg(title, parts, height)


def _axis(marks: Sequence[Mark]) -> Scale:
    lowest = min(0.0, *(mark.value if mark.low is None else mark.low for mark in marks))
    highest = max(0.0, *(mark.value if mark.high is None else mark.high for mark in marks))
    margin = 0.05 * max(highest - lowest, 1e-3)
    return Scale(
        low=lowest - margin if lowest < 0.0 else 0.0,
        high=highest + margin,
        start=LEFT,
        stop=WIDTH - RIGHT,
    )


def _told(mark: Mark, percent: bool, signed: bool) -> str:
    sign = "+" if signed else ""
    return f"{100 * mark.value:{sign}.1f} %" if percent else f"{mark.value:{sign}.3f}"


def _grid(across: Scale, height: int, scale: float) -> Markup:
    parts = []
    for value in ticks(across.low, across.high):
        x = f"{across(value):.1f}"
        kind = "grid zero" if across.low < 0.0 and abs(value) < 1e-12 else "grid"
        parts.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="2" y2="{}"/>').format(
                kind, x, x, height - AXIS
            )
            + Markup('<text class="tick" text-anchor="middle" x="{}" y="{}">{}</text>').format(
                x, height - 5, short(scale * value)
            )
        )
    return Markup("").join(parts)


def _draw(mark: Mark, told: str, across: Scale, y: float) -> Markup:
    span = Markup("")
    if mark.low is not None and mark.high is not None:
        span = Markup('<line x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
            across(mark.low), across(mark.high), y, y
        )
    label = mark.label if len(mark.label) <= LONGEST else f"…{mark.label[1 - LONGEST :]}"
    return Markup(
        '<g class="mark {}"><title>{}: {}</title>{}<circle cx="{:.1f}" cy="{:.1f}" r="3.6"/>'
        '<text class="tick" text-anchor="end" x="{}" y="{:.1f}">{}</text></g>'
    ).format(mark.kind, mark.label, told, span, across(mark.value), y, LEFT - 10, y + 4, label)
