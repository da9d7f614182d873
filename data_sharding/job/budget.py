"""How many rows may be rejected before a job gives up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_EXAMPLES = 3


@dataclass
class RejectBudget:
    """Counts rejected rows while scan tasks finish.

    Attributes:
        rows: Rows of the corpus.
        share: Most of them that may be rejected.
        counts: Reason -> rows rejected so far.
    """

    rows: int
    share: float
    counts: Counter[str] = field(default_factory=Counter)
    _examples: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def spent(self) -> bool:
        """Whether the budget cannot be met any more, whatever the other rows are."""
        return self.counts.total() > self.share * self.rows

    def add(self, rejects: Sequence[Mapping[str, Any]]) -> None:
        """Takes one task's rejected rows into account."""
        self.counts.update(str(reject["reason"]) for reject in rejects)
        earliest = sorted([*self._examples, *rejects], key=lambda reject: reject["row"])
        self._examples = earliest[:MOST_EXAMPLES]

    def report(self, listed: str) -> str:
        """What went wrong, for the error; `listed` says where all rejected rows are."""
        examples = "; ".join(
            f"row {reject['row']}: {reject['reason']}, {reject['detail']}"
            for reject in self._examples
        )
        return (
            f"{self.counts.total()} of {self.rows} rows rejected ({counted(self.counts)}), more "
            f"than max_reject_share {self.share:g} allows; the first: {examples}; see {listed}. "
            "Mend the corpus, delete that unfinished folder and run again; or run the same command "
            "with a higher max-reject-share, which goes on from here"
        )

    def nothing_left(self, corpus: str) -> str:
        """The error of a corpus without a single good row."""
        first = self._examples[0]
        return (
            f"{corpus}: no row passed, {self.counts.total()} rejected ({counted(self.counts)}); "
            f"the first, row {first['row']}: {first['detail']}"
        )


def counted(counts: Mapping[str, int]) -> str:
    """Counts by reason, as messages show them."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
