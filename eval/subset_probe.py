"""One representation against its floors, over all splits: arithmetic alone, no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from eval.comparison import compare, summarise
from eval.floors import majority_split, shuffled_split, tfidf_split
from eval.linear_probe import SplitProblem, SplitResult, probe_split
from eval.metrics import METRICS, Scores
from eval.probe_report import ProbeScores, SubsetReport
from eval.problems import mean_test_share

Matrix = Float32[np.ndarray, "sample dim"]


@dataclass(frozen=True, kw_only=True)
class SubsetInput:
    """Features of one representation, and the splits they are probed on."""

    subset: str
    pretrained: Matrix
    random: Mapping[str, Matrix]
    """Features of fresh backbones, by seed; at least one."""
    texts: Sequence[str] | None
    """Raw texts for the TF-IDF floor; None where the representation is not text."""
    problems: Sequence[SplitProblem]
    """One per split, without samples that lack the modality."""
    classes: tuple[str, ...]
    metric: str


def probe_subset(given: SubsetInput) -> SubsetReport:
    """Scores, floors, and the paired comparison with fresh backbones.

    Raises:
        ValueError: See `eval.linear_probe.probe_split`.
    """
    share = mean_test_share(given.problems)
    pretrained = [probe_split(_double(given.pretrained), problem) for problem in given.problems]
    random = {
        seed: [probe_split(_double(features), problem) for problem in given.problems]
        for seed, features in given.random.items()
    }
    floors = _label_floors(given, share) | {"random": _averaged(list(random.values()), share)}
    ours = [getattr(result.scores, given.metric) for result in pretrained]
    theirs = floors["random"].metrics[given.metric].per_split
    return SubsetReport(
        subset=given.subset,
        dim=given.pretrained.shape[1],
        **_sizes(given),
        pretrained=_over_splits(pretrained, share),
        floors=floors,
        random_seeds={
            seed: float(np.mean([getattr(result.scores, given.metric) for result in results]))
            for seed, results in random.items()
        },
        versus_random=compare(ours, theirs, share),
    )


def _label_floors(given: SubsetInput, share: float) -> dict[str, ProbeScores]:
    """Floors that need no fresh backbone."""
    features = _double(given.pretrained)
    majority = [
        SplitResult(scores=majority_split(problem), inverse_regularisation=None, num_unconverged=0)
        for problem in given.problems
    ]
    shuffled = [
        shuffled_split(features, problem, seed) for seed, problem in enumerate(given.problems)
    ]
    floors = {
        "majority": _over_splits(majority, share),
        "shuffled": _over_splits(shuffled, share),
    }
    if given.texts is not None:
        tfidf = [tfidf_split(given.texts, problem) for problem in given.problems]
        floors["tfidf"] = _over_splits(tfidf, share)
    return floors


def _over_splits(results: Sequence[SplitResult], share: float) -> ProbeScores:
    return ProbeScores(
        metrics={
            metric: summarise([getattr(result.scores, metric) for result in results], share)
            for metric in METRICS
        },
        confusion=_added([result.scores for result in results]),
        inverse_regularisation=tuple(result.inverse_regularisation for result in results),
        num_unconverged_fits=sum(result.num_unconverged for result in results),
    )


def _averaged(by_seed: Sequence[Sequence[SplitResult]], share: float) -> ProbeScores:
    """Scores averaged over fresh backbones, split by split; counts summed over them."""
    results = [result for seeded in by_seed for result in seeded]
    return ProbeScores(
        metrics={
            metric: summarise(
                [
                    float(np.mean([getattr(result.scores, metric) for result in paired]))
                    for paired in zip(*by_seed, strict=True)
                ],
                share,
            )
            for metric in METRICS
        },
        confusion=_added([result.scores for result in results]),
        inverse_regularisation=tuple(result.inverse_regularisation for result in results),
        num_unconverged_fits=sum(result.num_unconverged for result in results),
    )


def _added(scores: Sequence[Scores]) -> tuple[tuple[int, ...], ...]:
    total = np.sum([score.confusion for score in scores], axis=0)
    return tuple(tuple(int(count) for count in row) for row in total)


def _sizes(given: SubsetInput) -> dict:
    """Counts of samples and groups, and the classes that a test part lacks."""
    first = given.problems[0]
    rows = np.concatenate([first.split.train, first.split.validation, first.split.test])
    return {
        "num_samples": len(rows),
        "num_groups": len({first.groups[row] for row in rows}),
        "split_sizes": tuple(
            {
                "train": len(problem.split.train),
                "validation": len(problem.split.validation),
                "test": len(problem.split.test),
            }
            for problem in given.problems
        ),
        "classes_absent_from_test": tuple(
            tuple(
                name
                for place, name in enumerate(given.classes)
                if place not in problem.labels[problem.split.test]
            )
            for problem in given.problems
        ),
    }


def _double(features: Matrix) -> np.ndarray:
    """Float64: float32 stalls L-BFGS before its tolerance."""
    return features.astype(np.float64)
