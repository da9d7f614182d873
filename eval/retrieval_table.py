"""A retrieval report as a table for a terminal."""

import io

from rich.console import Console
from rich.table import Table

from eval.ranking import Recall
from eval.retrieval import RetrievalReport


def retrieval_table(report: RetrievalReport, title: str) -> Table:
    """Recall in percent with its 95 % interval, and chance in brackets."""
    cutoffs = [str(cutoff) for cutoff in report.protocol["cutoffs"]]
    table = Table(
        title=f"retrieval, recall in %: {title}",
        caption="[low, high]: 95 % bootstrap over groups; (chance): a random order",
    )
    table.add_column("", style="bold")
    for heading in ("gallery", "median rank", *(f"@{cutoff}" for cutoff in cutoffs)):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in report.directions.items():
        cells = [_cell(found.recall[cutoff]) for cutoff in cutoffs]
        arrow = name.replace("_to_", " -> ")
        table.add_row(arrow, str(found.num_gallery), f"{found.median_rank:g}", *cells)
    return table


def format_retrieval(report: RetrievalReport, title: str, width: int = 110) -> str:
    """The table as plain text, for a terminal or a log file."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, force_terminal=False)
    console.print(retrieval_table(report, title))
    return stream.getvalue().rstrip("\n")


def _cell(recall: Recall) -> str:
    span = rf"\[{100 * recall.interval.low:.1f}, {100 * recall.interval.high:.1f}]"
    return f"{100 * recall.value:.1f} {span} ({100 * recall.chance:.1f})"
