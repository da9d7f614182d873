"""Results of one representation over all splits -> its part of a report, and what to say of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from eval.card import TaskCard
from eval.comparison import Summary, summarise
from eval.finetune.report import MaskedScores, TunedScores
from eval.finetune.tune import Masked, TunedResult
from eval.metrics import Scores, added_confusion, fallen_on
from eval.probes.floors import constant_split
from eval.probes.problems import mean_test_share
from eval.probes.regression import Problem
from eval.regression_metrics import RegressionScores
from eval.splits import PARTS

CURE = (
    "lower --finetune.backbone-lr and --finetune.head-lr, take a smaller model, or balance the "
    "classes (--finetune.balance)"
)
"""What helped against it in the text-image system that recipe `system4` follows."""


def tuned_scores(
    card: TaskCard,
    problems: Sequence[Problem],
    results: Sequence[TunedResult],
    modalities: tuple[str, ...],
) -> TunedScores:
    """Means over splits, their deviation and, where parts are not fixed, corrected intervals."""
    share = None if card.fixed_parts else mean_test_share(problems)
    scores = [result.scores for result in results]
    of_classes = [found for found in scores if isinstance(found, Scores)]
    return TunedScores(
        modalities=modalities,
        split_sizes=tuple(
            {part: len(getattr(problem.split, part)) for part in PARTS} for problem in problems
        ),
        metrics=_summaries(card, scores, share),
        constant=_summaries(card, [constant_split(one).scores for one in problems], share),
        undefined={name: why for found in scores for name, why in found.undefined.items()},
        confusion=added_confusion(of_classes),
        validation=tuple(_chosen(result) for result in results),
        epochs=tuple(result.epoch for result in results),
        curves=tuple(result.curve for result in results),
        masked={
            name: MaskedScores(
                metrics=_summaries(card, [one.scores for one in whole], share),
                num_samples=tuple(one.num_samples for one in whole),
            )
            for name, found in _masked(results).items()
            if len(whole := [one for one in found if one is not None]) == len(results)
        },
    )


def tuned_findings(
    name: str, card: TaskCard, problems: Sequence[Problem], results: Sequence[TunedResult]
) -> Iterator[str]:
    """Sentences on predictions that fell on one class, absent classes and what has no value."""
    fallen: dict[str, int] = {}
    for result in results:
        for place in _fallen(result):
            fallen[card.classes[place]] = fallen.get(card.classes[place], 0) + 1
    if fallen:
        named = ", ".join(f"{label!r} in {count}" for label, count in fallen.items())
        yield (
            f"{name}: nearly all predictions fall on one class ({named} of {len(results)} splits): "
            f"{CURE}"
        )
    absent = {
        label
        for problem in problems
        for place, label in enumerate(card.classes)
        if place not in problem.labels[problem.split.test]
    }
    if absent:
        yield (
            f"{name}: some test part lacks {', '.join(sorted(absent))}, which counts as 0 in "
            "macro-F1"
        )
    undefined = {metric: why for one in results for metric, why in one.scores.undefined.items()}
    for metric, reason in undefined.items():
        yield f"{name}: {metric} has no value: {reason}"
    for modality, found in _masked(results).items():
        if empty := found.count(None):
            yield (
                f"{name}: not tested without {modality}: in {empty} of {len(results)} splits no "
                "test sample has another modality"
            )


def _fallen(result: TunedResult) -> set[int]:
    """Classes that nearly all predictions of test or of validation fall on."""
    scores = [part for part in (result.scores, result.validation) if isinstance(part, Scores)]
    found = [fallen_on(part.confusion) for part in scores]
    return {hit[0] for hit in found if hit is not None}


def _masked(results: Sequence[TunedResult]) -> Mapping[str, list[Masked | None]]:
    """By modality that was masked, then by split."""
    return {name: [one.masked[name] for one in results] for name in results[0].masked}


def _chosen(result: TunedResult) -> float:
    """Macro-F1, or the mean absolute error, on validation."""
    return result.curve[result.epoch - 1].validation


def _summaries(
    card: TaskCard, scores: Sequence[Scores | RegressionScores], share: float | None
) -> Mapping[str, Summary]:
    """By metric that has a value in every split.

    Args:
        card: Names the metrics.
        scores: By split.
        share: ``n_test / n_learn``; None where all splits have the authors' one test part, which
            the deviation over splits says nothing of: no interval then.
    """
    made = {}
    for metric in card.metrics:
        if all(metric in found.values for found in scores):
            values = [found.values[metric] for found in scores]
            made[metric] = summarise(values, share or 0.0)
            if share is None:
                made[metric] = replace(made[metric], interval=None, interval_uncorrected=None)
    return made
