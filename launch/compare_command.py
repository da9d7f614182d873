"""`triptych compare`: what several runs are worth beside each other."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from eval.pages.compare_runs import compare_runs
from eval.pages.run_answers import Which
from eval.pages.runs_page import render_comparison
from eval.pages.runs_table import format_comparison, format_markdown
from eval.records import write_text


@dataclass(frozen=True, kw_only=True)
class CompareCommand:
    """Put the scores of several runs side by side, and say which differences exceed the intervals.

    Nothing is measured: the reports in the runs' folders are read. The others are compared with the
    first run, on every task that two or more of them were probed or fine-tuned on in one way; each
    way (the linear probe, kNN, ..., fine-tuning) is a table.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, two or more."""

    task: str | None = None
    """Name of the one task to compare on; if not given, all that two or more share."""

    checkpoint: Which = "best"
    """`best`: of each run the one that validation scores choose; `newest`: the newest that was
    probed, and the newest that was fine-tuned."""

    markdown: bool = False
    """Print Markdown instead of a table for a terminal."""

    out: Path | None = None
    """Page (HTML) to write beside what is printed."""

    def __post_init__(self) -> None:
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"--out {self.out} is a folder; name a page, as {self.out}/runs.html")


def compare_command(arguments: list[str]) -> int:
    """`triptych compare`."""
    command = tyro.cli(CompareCommand, args=arguments, prog="triptych compare")
    comparison = compare_runs(command.runs, command.task, command.checkpoint)
    told = format_markdown(comparison) if command.markdown else format_comparison(comparison)
    if command.out is not None:  # before anything is told: a reader such as `head` may go away
        write_text(command.out, render_comparison(comparison))
    print(told)
    if command.out is not None:
        print(f"\n{command.out}")
    return 0
