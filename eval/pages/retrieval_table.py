"""A retrieval report as a table for a terminal."""

import io

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eval.probes.ranking import Recall
from eval.probes.retrieval import RetrievalReport

WIDEST = 1000
"""Characters of a line, however many places are asked for."""


def retrieval_table(report: RetrievalReport, title: str) -> Table:
    """Recall in percent with its 95 % interval, and chance in brackets."""
    cutoffs = [str(cutoff) for cutoff in report.protocol["cutoffs"]]
    table = Table(
        title=f"retrieval, recall in %: {escape(title)}",
        box=SIMPLE_HEAD,
        caption=r"\[low, high]: 95 % bootstrap over groups; (chance): a random order",
    )
    table.add_column("", style="bold", no_wrap=True)
    for heading in ("gallery", "median rank", *(f"@{cutoff}" for cutoff in cutoffs)):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in report.directions.items():
        cells = [_cell(found.recall[cutoff]) for cutoff in cutoffs]
        arrow = name.replace("_to_", " -> ")
        table.add_row(arrow, str(found.num_gallery), f"{found.median_rank:g}", *cells)
    return table


def format_retrieval(report: RetrievalReport, title: str, width: int = 110) -> str:
    """The table as plain text, for a terminal or a log file; wider where its numbers need it."""
    table = retrieval_table(report, title)
    needed = Console(width=WIDEST).measure(table).maximum
    stream = io.StringIO()
    wide = max(width, needed)
    console = Console(file=stream, width=wide, color_system=None, force_terminal=False)
    console.print(table)
    return stream.getvalue().rstrip("\n")


def _cell(recall: Recall) -> str:
    span = rf"\[{100 * recall.interval.low:.1f}, {100 * recall.interval.high:.1f}]"
    return f"{100 * recall.value:.1f} {span} ({100 * recall.chance:.1f})"
