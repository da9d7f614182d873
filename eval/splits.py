"""Group-wise splits: a pure function of labels, groups, and a seed.

Every backbone and every modality subset of a task sees the same splits. A group (one picture, one
speaker, one cluster of near duplicates) lies on one side only.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

Rows = Int64[np.ndarray, "_"]
PARTS: tuple[str, ...] = ("train", "test", "validation")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How often and in what shares a task is split."""

    num_splits: int = 20
    """Random splits; a probe of fewer than ten gives no verdict."""
    validation_share: float = 0.2
    """Share of the samples that choose what is kept: a probe's regularisation, an epoch of
    fine-tuning; in (0, 1)."""
    test_share: float = 0.3
    """Share of the samples that are scored once, in (0, 1)."""
    seed: int = 0
    """Another one gives other splits, and other draws where a set's authors fixed the parts."""
    num_seeds: int = 5
    """Where a set's authors fixed the parts: how often is trained, each time on another draw of the
    training part. A probe of fewer than five different draws gives no verdict."""
    train_share: float = 0.8
    """Where a set's authors fixed the parts: share of the training groups of each draw, in (0, 1]
    (1: always all of it, of which a probe gives no verdict)."""

    def __post_init__(self) -> None:
        if self.num_splits < 1:
            raise ValueError(f"splits.num_splits must be at least 1, got {self.num_splits}")
        if not (self.validation_share > 0.0 and self.test_share > 0.0):
            raise ValueError("splits.validation_share and splits.test_share must be above 0")
        if not self.validation_share + self.test_share < 1.0:
            raise ValueError(
                "splits.validation_share + splits.test_share must leave room to train, got "
                f"{self.validation_share} + {self.test_share}"
            )
        if self.seed < 0:
            raise ValueError(f"splits.seed must be at least 0, got {self.seed}")
        if self.num_seeds < 1:
            raise ValueError(f"splits.num_seeds must be at least 1, got {self.num_seeds}")
        if not 0.0 < self.train_share <= 1.0:
            raise ValueError(f"splits.train_share must be in (0, 1], got {self.train_share}")


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers of the three parts, ascending."""

    train: Rows
    validation: Rows
    test: Rows
    test_units: tuple[str, ...] | None = None
    """What is resampled of the test part for an interval, row by row, where the authors' parts cut
    it; None: its groups."""

    @property
    def num_rows(self) -> int:
        """Rows of all three parts."""
        return len(self.train) + len(self.validation) + len(self.test)

    def restricted_to(self, mask: Bool[np.ndarray, "sample"]) -> "Split":
        """The same split without the samples where ``mask`` is false."""
        units = self.test_units
        if units is not None:
            kept = mask[self.test]
            units = tuple(unit for unit, stays in zip(units, kept, strict=True) if stays)
        return Split(
            train=self.train[mask[self.train]],
            validation=self.validation[mask[self.validation]],
            test=self.test[mask[self.test]],
            test_units=units,
        )


def group_splits(
    labels: Int64[np.ndarray, "sample"], groups: Sequence[str], config: SplitConfig
) -> tuple[Split, ...]:
    """Random splits that keep groups whole and class shares as even as groups allow.

    Class by class, groups are drawn in random order: the first trains, the second is tested, the
    third validates, and each further one goes to the part that lacks most of its share. A group
    of mixed labels counts for its commonest one.

    Raises:
        ValueError: Fewer than two classes or fewer than three groups, or a part stays empty.
    """
    if len(groups) != len(labels):
        raise ValueError(f"{len(labels)} labels but {len(groups)} groups")
    if len(set(labels.tolist())) < 2:
        raise ValueError(
            "a probe needs at least two classes, the labelled samples hold "
            f"{len(set(labels.tolist()))}"
        )
    if len(set(groups)) < 3:
        raise ValueError(f"a probe needs at least three groups, got {len(set(groups))}")
    splits = tuple(
        _one_split(labels, groups, config, (config.seed, index))
        for index in range(config.num_splits)
    )
    for split in splits:
        refuse_leakage(split, groups)
    return splits


def draws_of_fixed_parts(
    fixed: Split,
    labels: Int64[np.ndarray, "sample"],
    groups: Sequence[str],
    config: SplitConfig,
) -> tuple[Split, ...]:
    """The authors' parts, with another draw of the training groups for each seed.

    Validation and test are the same in all of them. Of each class (a group of mixed labels counts
    for its commonest one) at least one group stays. Few groups give equal draws: `num_draws`.

    Raises:
        ValueError: A group lies in two parts, or a part is empty.
    """
    refuse_leakage(fixed, groups)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row in map(int, fixed.train):
        rows_of[groups[row]].append(row)
    made = []
    for index in range(config.num_seeds):
        generator = np.random.default_rng((config.seed, index))
        drawn: list[int] = []
        for members in _groups_by_class(labels, rows_of):
            order = [members[place] for place in generator.permutation(len(members))]
            for group in order[: max(1, round(config.train_share * len(order)))]:
                drawn.extend(rows_of[group])
        made.append(replace(fixed, train=np.sort(np.array(drawn, dtype=np.int64))))
    return tuple(made)


def strata_of(
    labels: Int64[np.ndarray, "sample"] | Float64[np.ndarray, "sample"],
) -> Int64[np.ndarray, "sample"]:
    """What is shared out evenly: the class, or the fifth of the labels that a number is in."""
    if np.issubdtype(labels.dtype, np.integer):
        return labels.astype(np.int64)
    bounds = np.unique(np.quantile(labels, (0.2, 0.4, 0.6, 0.8)))
    return np.searchsorted(bounds, labels, side="right").astype(np.int64)


def num_draws(splits: Sequence[Split]) -> int:
    """Different training parts among the splits."""
    return len({split.train.tobytes() for split in splits})


def refuse_leakage(split: Split, groups: Sequence[str]) -> None:
    """Refuse a split with one group on two sides, or with an empty part.

    Raises:
        ValueError: Names up to five of the groups, or the empty part.
    """
    seen: dict[str, str] = {}
    leaks: set[str] = set()
    for part in PARTS:
        rows: Rows = getattr(split, part)
        if len(rows) == 0:
            raise ValueError(f"the {part} part of a split is empty: too few groups")
        for row in map(int, rows):
            if seen.setdefault(groups[row], part) != part:
                leaks.add(groups[row])
    if leaks:
        named = ", ".join(repr(group) for group in sorted(leaks)[:5])
        raise ValueError(f"{len(leaks)} groups lie in more than one part of a split: {named}")


def _one_split(
    labels: Int64[np.ndarray, "sample"],
    groups: Sequence[str],
    config: SplitConfig,
    key: tuple[int, int],
) -> Split:
    generator = np.random.default_rng(key)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        rows_of[group].append(row)
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for members in _groups_by_class(labels, rows_of):
        order = [members[place] for place in generator.permutation(len(members))]
        for part, group in _allot(order, rows_of, config):
            parts[part].extend(rows_of[group])
    rows = {part: np.sort(np.array(parts[part], dtype=np.int64)) for part in PARTS}
    return Split(train=rows["train"], validation=rows["validation"], test=rows["test"])


def _groups_by_class(
    labels: Int64[np.ndarray, "sample"], rows_of: dict[str, list[int]]
) -> Iterator[list[str]]:
    """Groups of each class, classes and groups in a fixed order."""
    by_class: dict[int, list[str]] = defaultdict(list)
    for group in sorted(rows_of):
        counts = Counter(int(labels[row]) for row in rows_of[group])
        commonest = min(counts, key=lambda label: (-counts[label], label))
        by_class[commonest].append(group)
    for label in sorted(by_class):
        yield by_class[label]


def _allot(
    order: Sequence[str], rows_of: dict[str, list[int]], config: SplitConfig
) -> Iterator[tuple[str, str]]:
    """One group for each part, then each to the part that lacks most samples of this class."""
    total = sum(len(rows_of[group]) for group in order)
    lacking = {
        "train": total * (1.0 - config.validation_share - config.test_share),
        "test": total * config.test_share,
        "validation": total * config.validation_share,
    }
    for place, group in enumerate(order):
        first = place < len(PARTS)
        part = PARTS[place] if first else max(PARTS, key=lambda name: lacking[name])
        lacking[part] -= len(rows_of[group])
        yield part, group
