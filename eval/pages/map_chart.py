"""Embedding maps as inline SVG: a colour and a shape for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from eval.pages.charts import svg
from eval.probes.embedding_map import EmbeddingMap, Projection

SIDE, EDGE = 340, 10
NUM_COLOURS = 10
SHAPES = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",  # disc
    "m-2.7-2.7h5.4v5.4h-5.4z",  # square
    "m0-3.8l3.6 6.3h-7.2z",  # triangle
    "m0-4l3.2 4l-3.2 4l-3.2-4z",  # diamond
)
"""Paths about the place where they stand."""


@dataclass(frozen=True, kw_only=True)
class MapPanel:
    """One representation's map."""

    name: str
    num_points: int
    shown: str
    """Share of the variance, in words."""
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class MapSection:
    """The maps of a task, and their common legend."""

    panels: tuple[MapPanel, ...]
    legend: tuple[tuple[str, str, Markup], ...]
    """(name, class of the page's style sheet, drawing) of each class."""
    note: str


def map_section(found: EmbeddingMap) -> MapSection:
    """All maps of a checkpoint on a task."""
    drawn = max((len(made.places) for made in found.projections.values()), default=0)
    sample = f"{drawn:,} drawn from " if drawn < found.num_samples else ""
    return MapSection(
        panels=tuple(
            MapPanel(
                name=name,
                num_points=len(made.places),
                shown=f"{100 * sum(made.shown):.0f} % of the variance",
                svg=draw_map(f"{found.task}, {name}: embedding map", made, found.classes),
            )
            for name, made in found.projections.items()
        ),
        legend=tuple(
            (name, _colour(place), _drawing(place)) for place, name in enumerate(found.classes)
        ),
        note=f"{sample}{found.num_samples:,} samples of {found.checkpoint['name']} on the two "
        "directions in which its standardised features vary most (PCA, labels unread); what is "
        "mixed up here may be told apart by further ones",
    )


def draw_map(title: str, made: Projection, classes: Sequence[str]) -> Markup:
    """One map; both axes have one scale."""
    xs, ys = zip(*made.places, strict=True)
    across = max(max(xs) - min(xs), max(ys) - min(ys), 1e-9)
    scale = (SIDE - 2 * EDGE) / across
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    by_class: Mapping[int, list[str]] = {place: [] for place in range(len(classes))}
    for (x, y), place in zip(made.places, made.classes, strict=True):
        right, down = SIDE / 2 + scale * (x - middle[0]), SIDE / 2 - scale * (y - middle[1])
        by_class[place].append(f"M{right:.1f} {down:.1f}{SHAPES[_shape(place)]}")
    parts = [
        Markup('<path class="dot {}" d="{}"><title>{}</title></path>').format(
            _colour(place), "".join(drawn), classes[place]
        )
        for place, drawn in by_class.items()
        if drawn
    ]
    frame = Markup('<rect class="frame" x="0.5" y="0.5" width="{0}" height="{0}"/>')
    return svg(title, [frame.format(SIDE - 1), *parts], SIDE, SIDE)


def _colour(place: int) -> str:
    return f"s{place % NUM_COLOURS}"


def _shape(place: int) -> int:
    """Neighbours differ, and classes of one colour as well: forty classes have their own sign."""
    return (place + place // NUM_COLOURS) % len(SHAPES)


def _drawing(place: int) -> Markup:
    return Markup(
        '<svg viewBox="0 0 10 10" aria-hidden="true"><path class="dot {}" d="M5 5{}"/></svg>'
    ).format(_colour(place), SHAPES[_shape(place)])
