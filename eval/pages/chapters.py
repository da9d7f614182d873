"""The charts of a run's report, a chapter for each page of the guide to its curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from data_sharding.schema import MODALITIES
from eval.pages.charts import Band, LineChart, Points, draw_lines
from pretrain.metrics.guide import Curve, Page

ORDER = (*MODALITIES, "fused")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart with its heading, legend and reading aid."""

    title: str
    note: str
    legend: tuple[tuple[str, str], ...]
    """(name, class of the page's style sheet) of each series."""
    svg: Markup


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Panels that belong together."""

    title: str
    about: str
    panels: tuple[Panel, ...]


def chapters(pages: Sequence[Page], metrics: Mapping[str, Points]) -> list[Chapter]:
    """A chapter for each page of which anything was logged."""
    made = []
    for page in pages:
        panels = [_of_curve(curve, metrics) for curve in page.curves]
        if shown := tuple(panel for panel in panels if panel is not None):
            title = page.title.partition(" ")[2]
            made.append(Chapter(title=title, about=page.about, panels=shown))
    return made


def make_panel(chart: LineChart) -> Panel:
    """A chart of some series by name, with its legend."""
    return Panel(
        title=chart.title,
        note=chart.note,
        legend=tuple((name, chart.kind(name)) for name in chart.series),
        svg=draw_lines(chart),
    )


def ordered(series: Mapping[str, Points]) -> dict[str, Points]:
    """Modalities in their one order, then the rest."""
    known = [name for name in ORDER if name in series]
    return {name: series[name] for name in [*known, *sorted(set(series) - set(known))]}


def _of_curve(curve: Curve, metrics: Mapping[str, Points]) -> Panel | None:
    series = {label: metrics[tag] for label, tag in curve.lines(metrics).items()}
    if not series:
        return None
    bands = []
    if curve.bad is not None:
        low, high = curve.bad
        bands.append(Band(low=low, high=high, kind="bad", label="sick"))
    if curve.good is not None:
        low, high = curve.good
        bands.append(Band(low=low, high=high, kind="good", label="healthy"))
    chart = LineChart(
        title=curve.title,
        series=ordered(series),
        note=curve.looks,
        bands=bands,
        from_zero=curve.from_zero,
    )
    return make_panel(chart)
