"""The linear probe with few labels: a share of the training part, drawn class by class.

Only training labels are few. The validation part stays whole, so what is selected there is
selected with more labels than are trained on: scores are of few labels to learn from, not of few
labels in all. The draws of one split are nested: those of 1 % are among those of 5 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from eval.probes.regression import Problem
from eval.splits import strata_of


@dataclass(frozen=True, kw_only=True)
class FewShotConfig:
    """How many labels are left."""

    shares: tuple[float, ...] = (0.01, 0.05, 0.1)
    """Shares of the training samples of each class (of a number as label: of each fifth of its
    values), in (0, 1), ascending; at least one sample of each is drawn."""

    def __post_init__(self) -> None:
        if not self.shares or not all(0.0 < share < 1.0 for share in self.shares):
            raise ValueError(f"few_shot.shares must lie in (0, 1), got {self.shares}")
        if list(self.shares) != sorted(set(self.shares)):
            raise ValueError(f"few_shot.shares must ascend, got {self.shares}")


def draw_few(
    strata: Int64[np.ndarray, "row"], share: float, seed: int
) -> Int64[np.ndarray, "drawn"]:
    """Places of the drawn rows, ascending: of each stratum its share, but one at the least.

    A smaller share with the same seed draws some of the same rows.
    """
    generator = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        drawn.append(members[: max(1, round(share * len(members)))])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def few_shot_problems(problems: Sequence[Problem], share: float) -> list[Problem]:
    """The same splits, each with a draw of its own of so many training samples.

    Validation and test stay as they are. Groups need not stay whole within training.
    """
    return [_with_few(problem, share, seed) for seed, problem in enumerate(problems)]


def few_shot_name(share: float) -> str:
    """``few-shot 5 %``: its name in a report."""
    return f"few-shot {100 * share:g} %"


def _with_few(problem: Problem, share: float, seed: int) -> Problem:
    train = problem.split.train
    kept = train[draw_few(strata_of(problem.labels[train]), share, seed)]
    return replace(problem, split=replace(problem.split, train=kept))
