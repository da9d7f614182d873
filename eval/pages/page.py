"""What the HTML pages share: one file with its style inside, everything from data escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.comparison import Summary
from eval.pages.forest import Mark
from eval.probes.probe_report import SubsetReport

TEMPLATES = Path(__file__).parent / "templates"
FLOORS = {
    "majority": "majority class",
    "mean": "mean label",
    "shuffled": "shuffled labels",
    "tfidf": "TF-IDF",
    "random": "random weights",
}
"""Headings of the floors of a probe report, in the order in which they are told."""


def render_page(template: str, **values: object) -> str:
    """A page from a file of ``eval/templates``, with the pages' style sheet."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (TEMPLATES / "report.css").read_text("utf-8")
    return environment.get_template(template).render(style=Markup(style), **values)


def floor_marks(part: SubsetReport, metric: str) -> list[Mark]:
    """Its floors, for a forest plot."""
    return [
        make_mark(
            label, "random" if name == "random" else "floor", part.floors[name].metrics[metric]
        )
        for name, label in FLOORS.items()
        if name in part.floors
    ]


def make_mark(label: str, kind: str, summary: Summary) -> Mark:
    """A score with its interval, for a forest plot."""
    span = summary.interval
    return Mark(
        label=label,
        kind=kind,
        value=summary.mean,
        low=span.low if span else None,
        high=span.high if span else None,
    )
