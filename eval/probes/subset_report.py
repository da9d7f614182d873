"""Results of one representation over all splits -> its scores, floors and verdict.

Random splits by groups give a t interval over splits, corrected for their overlap. Where a set's
authors fixed the parts, the splits differ in their training draws alone and share one test part:
its groups (where the parts cut groups: what it holds of each) are resampled for the interval, the
same ones for what is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int64

from eval.comparison import Comparison, Summary, compare, compare_draws, summarise, summarise_draws
from eval.metrics import Scores, added_confusion
from eval.probes.floors import constant_split
from eval.probes.linear_probe import SplitResult
from eval.probes.probe_report import OtherProbe, ProbeScores, SubsetReport
from eval.probes.regression import Problem
from eval.splits import num_draws

Results = Mapping[str, Sequence[SplitResult]]
"""One result for each split: ``pretrained``, ``shuffled``, ``tfidf``, and the random seeds."""

PRETRAINED, SHUFFLED, TFIDF = "pretrained", "shuffled", "tfidf"

CALIBRATION = "calibration_error"
NUM_RESAMPLES = 500
"""Resamples of a fixed test part; the bounds of a 95 % interval lie on the 13th from each end."""

Draws = Mapping[str, Float[np.ndarray, "draw"]]
"""By metric: mean over seeds on each resample."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a task is scored."""

    classes: tuple[str, ...]
    """Empty where the label is a number."""
    metrics: tuple[str, ...]
    metric: str
    """What decides."""
    sign: int = 1
    """-1 where less is better."""
    fixed: bool = False
    """Whether the authors fixed the parts."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a report, without its scores."""

    subset: str
    dim: int
    problems: Sequence[Problem]
    seeds: tuple[str, ...]
    """Names of the fresh backbones among the results."""
    test_share: float
    """``n_test / n_learn`` of the whole splits, by which intervals are corrected for overlap."""


def report_subset(row: Row, measure: Measure, results: Results) -> SubsetReport:
    """Scores, floors, and the paired comparison with fresh backbones."""
    pool = _Pool(row, measure)
    constant = [constant_split(problem) for problem in row.problems]
    arms = {"majority" if measure.classes else "mean": [constant]}
    arms |= {name: [results[name]] for name in (SHUFFLED, TFIDF) if name in results}
    arms |= {"random": [results[seed] for seed in row.seeds], PRETRAINED: [results[PRETRAINED]]}
    draws = {name: pool.draws(by_seed) for name, by_seed in arms.items()}
    scores = {name: pool.scores(by_seed, draws[name]) for name, by_seed in arms.items()}
    return SubsetReport(
        subset=row.subset,
        dim=row.dim,
        **_sizes(row, measure.classes),
        pretrained=scores.pop(PRETRAINED),
        versus_random=pool.versus(scores["random"], arms[PRETRAINED], draws),
        floors=scores,
        random_seeds=_seed_means(row, measure, results),
    )


def report_other(row: Row, measure: Measure, results: Results) -> OtherProbe:
    """Another probe of a representation: its scores, and those of fresh backbones.

    Args:
        row: The problems that it was fitted on, and the fresh backbones' names.
        measure: How the task is scored.
        results: ``pretrained`` and the fresh backbones'.
    """
    pool, ours = _Pool(row, measure), results[PRETRAINED]
    arms = {PRETRAINED: [ours], "random": [results[seed] for seed in row.seeds]}
    draws = {name: pool.draws(by_seed) for name, by_seed in arms.items()}
    random = pool.scores(arms["random"], draws["random"])
    return OtherProbe(
        pretrained=pool.scores([ours], draws[PRETRAINED]),
        random=random,
        random_seeds=_seed_means(row, measure, results),
        versus_random=pool.versus(random, [ours], draws),
        num_trained_on=tuple(len(problem.split.train) for problem in row.problems),
        chosen=tuple(result.chosen for result in ours),
    )


def _seed_means(row: Row, measure: Measure, results: Results) -> dict[str, float]:
    """Mean of the task's metric for each fresh backbone."""
    return {
        seed: float(np.mean([result.scores.values[measure.metric] for result in results[seed]]))
        for seed in row.seeds
    }


class _Pool:
    """Pools the results of one or several equal backbones over splits."""

    def __init__(self, row: Row, measure: Measure) -> None:
        self._problems = row.problems
        self._measure = measure
        self._share = row.test_share
        self._groups = _test_groups(row.problems[0]) if measure.fixed else []
        self._resamples = _resamples(self._groups) if measure.fixed else []

    def scores(self, by_seed: Sequence[Sequence[SplitResult]], draws: Draws) -> ProbeScores:
        """Averaged over backbones, split by split; counts summed over them."""
        results = [result for made in by_seed for result in made]
        metrics = {
            name: self._summary(_per_split(name, by_seed), draws.get(name))
            for name in self._measure.metrics
            if all(name in result.scores.values for result in results)
        }
        if (gaps := _calibration(by_seed)) is not None:
            metrics[CALIBRATION] = self._without_draws(gaps)
        own = by_seed[0] if len(by_seed) == 1 else []
        return ProbeScores(
            metrics=metrics,
            confusion=added_confusion(
                [result.scores for result in results if isinstance(result.scores, Scores)]
            ),
            inverse_regularisation=tuple(result.inverse_regularisation for result in results),
            num_unconverged_fits=sum(result.num_unconverged for result in results),
            validation_macro_f1=_whole([result.validation_macro_f1 for result in own]),
            validation_mae=_whole([result.validation_mae for result in own]),
            undefined=_undefined(self._measure.metrics, results),
        )

    def versus(
        self, random: ProbeScores, ours: Sequence[Sequence[SplitResult]], draws: Mapping[str, Draws]
    ) -> Comparison:
        """The metric that decides, ours minus random; above 0 is a gain."""
        metric, sign = self._measure.metric, self._measure.sign
        first = [sign * value for value in _per_split(metric, ours)]
        second = [sign * value for value in random.metrics[metric].per_split]
        if not self._measure.fixed:
            return compare(first, second, self._share)
        differences = [one - other for one, other in zip(first, second, strict=True)]
        gain = sign * (draws[PRETRAINED][metric] - draws["random"][metric])
        different = num_draws([problem.split for problem in self._problems])
        return compare_draws(differences, gain, different, len(self._groups))

    def draws(self, by_seed: Sequence[Sequence[SplitResult]]) -> Draws:
        """Mean over backbones and splits on each resample of the test part; NaN without a value.

        Empty where the splits are random.
        """
        if not self._measure.fixed:
            return {}
        found = [self._mean_on(rows, by_seed) for rows in self._resamples]
        return {name: np.array([means[name] for means in found]) for name in self._measure.metrics}

    def _summary(self, values: Sequence[float], draws: Float[np.ndarray, "draw"] | None) -> Summary:
        return summarise(values, self._share) if draws is None else summarise_draws(values, draws)

    def _without_draws(self, values: Sequence[float]) -> Summary:
        """Of what is not scored on resamples: no interval where the test part is fixed."""
        found = summarise(values, self._share)
        fixed = self._measure.fixed
        return replace(found, interval=None, interval_uncorrected=None) if fixed else found

    def _mean_on(
        self, rows: Int64[np.ndarray, "_"], by_seed: Sequence[Sequence[SplitResult]]
    ) -> dict[str, float]:
        made: dict[str, list[float]] = {name: [] for name in self._measure.metrics}
        for results in by_seed:
            for problem, result in zip(self._problems, results, strict=True):
                assert result.predicted is not None
                scores = problem.score(problem.split.test[rows], result.predicted[rows])
                for name in made.keys() & scores.values.keys():
                    made[name].append(scores.values[name])
        return {name: float(np.mean(values)) if values else np.nan for name, values in made.items()}


def _test_groups(problem: Problem) -> list[Int64[np.ndarray, "_"]]:
    """Places of each group in the test part, or of what the authors' parts left of it there."""
    split = problem.split
    units = split.test_units or [problem.groups[int(row)] for row in split.test]
    places: dict[str, list[int]] = {}
    for place, unit in enumerate(units):
        places.setdefault(unit, []).append(place)
    return [np.array(found, dtype=np.int64) for _, found in sorted(places.items())]


def _resamples(groups: Sequence[Int64[np.ndarray, "_"]]) -> list[Int64[np.ndarray, "_"]]:
    """Groups drawn with replacement, as often as there are groups."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(groups), (NUM_RESAMPLES, len(groups)))
    return [np.concatenate([groups[number] for number in numbers]) for numbers in drawn]


def _per_split(metric: str, by_seed: Sequence[Sequence[SplitResult]]) -> list[float]:
    return [
        float(np.mean([result.scores.values[metric] for result in paired]))
        for paired in zip(*by_seed, strict=True)
    ]


def _calibration(by_seed: Sequence[Sequence[SplitResult]]) -> list[float] | None:
    """Mean over backbones for each split; None where there are no probabilities."""
    made = []
    for paired in zip(*by_seed, strict=True):
        gaps = [one.calibration_error for one in paired if one.calibration_error is not None]
        if len(gaps) < len(paired):
            return None
        made.append(float(np.mean(gaps)))
    return made


def _undefined(metrics: Sequence[str], results: Sequence[SplitResult]) -> dict[str, str]:
    """Metrics that some result lacks: how many do, and why the first does."""
    found: dict[str, str] = {}
    for metric in metrics:
        reasons = [
            result.scores.undefined[metric]
            for result in results
            if metric in result.scores.undefined
        ]
        if reasons:
            found[metric] = f"in {len(reasons)} of {len(results)} fits: {reasons[0]}"
    return found


def _whole(marks: Sequence[float | None]) -> tuple[float, ...] | None:
    """All marks, or None where one is missing or there is none."""
    known = tuple(mark for mark in marks if mark is not None)
    return known if known and len(known) == len(marks) else None


def _sizes(row: Row, classes: Sequence[str]) -> dict:
    """Counts of samples and groups, and the classes that a test part lacks."""
    splits = [problem.split for problem in row.problems]
    first, groups = splits[0], row.problems[0].groups
    rows = np.concatenate([first.train, first.validation, first.test])
    return {
        "num_samples": len(rows),
        "num_groups": len({groups[number] for number in rows}),
        "split_sizes": tuple(
            {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
            }
            for split in splits
        ),
        "classes_absent_from_test": tuple(
            tuple(
                name
                for place, name in enumerate(classes)
                if place not in problem.labels[problem.split.test]
            )
            for problem in row.problems
        ),
    }
