"""Who says what trains and what is tested: a set's authors, or random splits by groups."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from data_sharding.schema import DEFAULT_SPLIT
from eval.importers.rows import PARTS, LabelledRow

Parts = Literal["authors", "groups"]
"""``authors``: training, validation and test as published; ``groups``: random splits that keep a
group whole."""


@dataclass(frozen=True, kw_only=True)
class DecidedParts:
    """Rows with their split, and what the card says of it."""

    rows: list[LabelledRow]
    fixed: bool
    group_key: str | None
    """Key of the groups that no split parts; None where the authors' own parts do."""
    rule: str
    notes: tuple[str, ...]


def decide_parts(
    rows: Sequence[LabelledRow], parts: Parts, group: str, advice: str = "--parts groups"
) -> DecidedParts:
    """Keep the authors' parts, or drop them for splits by groups.

    Where the authors' parts cut groups, no split keeps them whole, which the notes and the rule
    say: scores there are higher than on unseen groups. Intervals resample them all the same.

    Args:
        rows: With their groups, and the authors' parts.
        parts: Who decides.
        group: What a group is, in a word.
        advice: What makes splits by groups, as a subject: "... splits what is here by speaker".

    Raises:
        ValueError: The authors' parts are asked for, and one of them has no row.
    """
    if parts == "groups":
        return DecidedParts(
            rows=[replace(row, split=DEFAULT_SPLIT) for row in rows],
            fixed=False,
            group_key="group",
            rule=f"random splits; a {group} lies on one side",
            notes=(),
        )
    empty = [part for part in PARTS if not any(row.split == part for row in rows)]
    if empty:
        raise ValueError(
            f"no row is in the authors' {' and '.join(empty)} part; {advice} splits what is here "
            f"by {group}"
        )
    parts_of: dict[str | None, set[str]] = defaultdict(set)
    for row in rows:
        parts_of[row.group].add(row.split)
    cut = sum(len(found) > 1 for found in parts_of.values())
    if not cut:
        rule = f"the authors' training, validation and test parts; no {group} lies in two"
        return DecidedParts(rows=list(rows), fixed=True, group_key="group", rule=rule, notes=())
    told = f"the authors' parts cut {cut} of {len(parts_of)} {group}s"
    return DecidedParts(
        rows=list(rows),
        fixed=True,
        group_key=None,
        rule=f"the authors' training, validation and test parts, which cut {group}s",
        notes=(f"{told}, so scores are higher than on unseen {group}s; {advice} keeps them whole",),
    )
