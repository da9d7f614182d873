"""A plan's text: chapters of labelled lines, and findings."""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from launch.errors import USER_ERRORS

WIDTH = 96
LABEL = 20


@dataclass
class Chapter:
    """One part of a plan.

    Attributes:
        title: Its name.
        lines: Facts.
        findings: What is wrong and what to do about it, a line each.
    """

    title: str
    lines: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def tell(self, label: str, text: str) -> None:
        """Add a fact; a long one goes on below itself."""
        first = f"  {label:<{LABEL}}"
        self.lines += textwrap.wrap(
            text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first),
            break_on_hyphens=False, break_long_words=False,
        )  # fmt: skip

    def tell_rows(self, rows: Sequence[tuple[str, Sequence[str]]], width: int) -> None:
        """Add a table; each row has a label and cells of equal width."""
        for label, cells in rows:
            columns = "".join(f"{cell:>{width}}" for cell in cells)
            self.lines.append(f"  {label:<{LABEL + 8}}{columns}".rstrip())

    def find(self, finding: str) -> None:
        """Add a finding."""
        self.findings.append(" ".join(finding.split()))

    @contextmanager
    def finding_errors(self) -> Iterator[None]:
        """What a start would refuse is a finding; the rest of the plan is told all the same."""
        try:
            yield
        except USER_ERRORS as error:
            self.find(str(error))

    def check(self, refuse: Callable[[], object]) -> None:
        """Do what refuses by raising; see `finding_errors`."""
        with self.finding_errors():
            refuse()


def told(chapters: Sequence[Chapter]) -> str:
    """The plan as it is printed; findings come last, each of them in one line."""
    parts = ["\n".join([chapter.title, *chapter.lines]) for chapter in chapters if chapter.lines]
    findings = [finding for chapter in chapters for finding in chapter.findings]
    head = f"{len(findings)} finding{'s'[: len(findings) != 1]}" if findings else "No finding"
    return "\n\n".join([*parts, "\n".join([head, *(f"  - {finding}" for finding in findings)])])


def gigabytes(size: float | int) -> str:
    """Bytes, in the decimal units that disks and GPUs are sold in."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{_rounded(size / scale)} {unit}"
    return f"{size / 1e3:.1f} kB"


def millions(count: int) -> str:
    """Entries of weights."""
    return f"{count / 1e6:.1f} M"


def duration(seconds: float | int) -> str:
    """A time for people: ``0.42 s``, ``13 min``, ``26 h``, ``4.1 days``."""
    for unit, scale, least in (("days", 86400.0, 2.0), ("h", 3600.0, 2.0), ("min", 60.0, 2.0)):
        if seconds >= least * scale:
            return f"{_rounded(seconds / scale)} {unit}"
    return f"{_rounded(seconds)} s"


def _rounded(value: float | int) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
