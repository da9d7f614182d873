"""Representations against their floors, and their vote, over all splits: no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from threadpoolctl import threadpool_limits

from data_sharding.parallel import in_processes
from data_sharding.schema import MODALITIES
from eval.comparison import compare, summarise
from eval.fits import Fit, FitJob, fit_all_splits
from eval.floors import majority_split, shuffled_labels, tfidf_split
from eval.late_fusion import EVEN_VOTE, fuse_late
from eval.linear_probe import SplitProblem, SplitResult
from eval.metrics import METRICS, Scores
from eval.probe_report import ProbeScores, SubsetReport
from eval.problems import mean_test_share

Matrix = Float32[np.ndarray, "sample dim"]
Results = Mapping[str, Sequence[SplitResult]]
"""One result for each split: ``pretrained``, ``shuffled``, ``tfidf``, and the random seeds."""

PRETRAINED, SHUFFLED, TFIDF = "pretrained", "shuffled", "tfidf"


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

    def jobs(self) -> "dict[str, FitJob | TextJob]":
        """What is fitted for it, by name."""
        learned = [shuffled_labels(problem, seed) for seed, problem in enumerate(self.problems)]
        made: dict[str, FitJob | TextJob] = {
            PRETRAINED: FitJob(features=self.pretrained, problems=self.problems),
            SHUFFLED: FitJob(features=self.pretrained, problems=self.problems, learned=learned),
        }
        for seed, features in self.random.items():
            made[seed] = FitJob(features=features, problems=self.problems)
        if self.texts is not None:
            made[TFIDF] = TextJob(texts=self.texts, problems=self.problems)
        return made


@dataclass(frozen=True, kw_only=True)
class TextJob:
    """The TF-IDF floor over all splits."""

    texts: Sequence[str]
    problems: Sequence[SplitProblem]


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One row of a report, without its scores."""

    subset: str
    dim: int
    problems: Sequence[SplitProblem]
    like: SubsetInput
    """Has the classes and the metric."""


def probe_subsets(
    given: Sequence[SubsetInput], late: Sequence[SplitProblem] = (), workers: int = 1
) -> dict[str, SubsetReport]:
    """Scores, floors, and the paired comparison with fresh backbones.

    Args:
        given: The representations; all with the same fresh backbones.
        late: Splits of the samples that have any of the single modalities among ``given``, for
            their even vote, which is the last row then; none: no vote.
        workers: Processes that fit.

    Returns:
        By representation, and ``late``, whose TF-IDF floor is that of the text alone.

    Raises:
        ValueError: See `eval.linear_probe.probe_split`.
    """
    results = _fit_all(given, late, workers)
    dims = {part.subset: part.pretrained.shape[1] for part in given}
    rows = [
        _Row(subset=part.subset, dim=dims[part.subset], problems=part.problems, like=part)
        for part in given
    ]
    if late:
        dim = sum(dims.get(name, 0) for name in MODALITIES)
        rows.append(_Row(subset=EVEN_VOTE, dim=dim, problems=late, like=given[0]))
    return {row.subset: _report(row, results[row.subset]) for row in rows}


def _fit_all(
    given: Sequence[SubsetInput], late: Sequence[SplitProblem], workers: int
) -> dict[str, dict[str, Sequence[SplitResult]]]:
    """Results by representation and by job; jobs of one name are fitted together and vote."""
    by_subset = {part.subset: part.jobs() for part in given}
    names = dict.fromkeys(name for jobs in by_subset.values() for name in jobs)
    jobs = {
        (name, subset): made[name]
        for name in names
        for subset, made in by_subset.items()
        if name in made
    }
    voters = [subset for subset in by_subset if subset in MODALITIES]
    results: dict[str, dict[str, Sequence[SplitResult]]] = {subset: {} for subset in by_subset}
    results |= {EVEN_VOTE: {}} if late else {}
    fits: dict[str, list[Fit]] = {}
    done = in_processes(_fit_job, list(jobs.values()), workers, "probes")
    for (name, subset), made in zip(jobs, done, strict=True):
        results[subset][name] = [
            result.without_votes() if isinstance(result, Fit) else result for result in made
        ]
        if late and subset in voters and name != TFIDF:
            fits[subset] = [result for result in made if isinstance(result, Fit)]
        if late and len(fits) == len(voters):
            results[EVEN_VOTE][name] = _vote(fits, late)
            fits.clear()  # ballots of all jobs at once would fill the memory
    return results


def _fit_job(job: FitJob | TextJob) -> Sequence[SplitResult]:
    if isinstance(job, FitJob):
        return fit_all_splits(job)
    with threadpool_limits(1):
        return [tfidf_split(job.texts, problem) for problem in job.problems]


def _vote(fits: Mapping[str, Sequence[Fit]], problems: Sequence[SplitProblem]) -> list[SplitResult]:
    """The even vote on each split; what its probes did not converge on is told in their rows."""
    return [
        SplitResult(
            scores=fuse_late(
                {name: made[place].ballot for name, made in fits.items()}, problem
            ).scores,
            inverse_regularisation=None,
            num_unconverged=0,
        )
        for place, problem in enumerate(problems)
    ]


def _report(row: _Row, results: Results) -> SubsetReport:
    share, metric = mean_test_share(row.problems), row.like.metric
    random = {seed: results[seed] for seed in row.like.random}
    majority = [
        SplitResult(scores=majority_split(problem), inverse_regularisation=None, num_unconverged=0)
        for problem in row.problems
    ]
    floors = {"majority": _over_splits(majority, share)}
    for name in (SHUFFLED, TFIDF):
        if name in results:
            floors[name] = _over_splits(results[name], share)
    floors["random"] = _averaged(list(random.values()), share)
    ours = [getattr(result.scores, metric) for result in results[PRETRAINED]]
    theirs = floors["random"].metrics[metric].per_split
    return SubsetReport(
        subset=row.subset,
        dim=row.dim,
        **_sizes(row),
        pretrained=_over_splits(results[PRETRAINED], share),
        floors=floors,
        random_seeds={
            seed: float(np.mean([getattr(result.scores, metric) for result in made]))
            for seed, made in random.items()
        },
        versus_random=compare(ours, theirs, share),
    )


def _over_splits(results: Sequence[SplitResult], share: float) -> ProbeScores:
    marks = [result.validation_macro_f1 for result in results]
    known = tuple(mark for mark in marks if mark is not None)
    return ProbeScores(
        metrics={
            metric: summarise([getattr(result.scores, metric) for result in results], share)
            for metric in METRICS
        },
        confusion=_added([result.scores for result in results]),
        inverse_regularisation=tuple(result.inverse_regularisation for result in results),
        num_unconverged_fits=sum(result.num_unconverged for result in results),
        validation_macro_f1=known if len(known) == len(marks) else None,
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


def _sizes(row: _Row) -> dict:
    """Counts of samples and groups, and the classes that a test part lacks."""
    first = row.problems[0]
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
            for problem in row.problems
        ),
        "classes_absent_from_test": tuple(
            tuple(
                name
                for place, name in enumerate(row.like.classes)
                if place not in problem.labels[problem.split.test]
            )
            for problem in row.problems
        ),
    }
