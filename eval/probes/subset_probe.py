"""Representations and their floors, and their vote, fitted over all splits: no files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32
from threadpoolctl import threadpool_limits

from data_sharding.parallel import in_processes
from data_sharding.schema import MODALITIES
from eval.probes.attentive_tokens import TokenTable
from eval.probes.fits import Fit, FitJob, fit_all_splits
from eval.probes.floors import shuffled_labels, tfidf_split
from eval.probes.late_fusion import EVEN_VOTE, fuse_late
from eval.probes.linear_probe import SplitResult
from eval.probes.probe_report import SubsetReport
from eval.probes.problems import mean_test_share
from eval.probes.regression import Problem
from eval.probes.subset_report import PRETRAINED, SHUFFLED, TFIDF, Measure, Row, report_subset

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
    problems: Sequence[Problem]
    """One per split, without samples that lack the modality."""
    measure: Measure
    tokens: Mapping[str, TokenTable] = field(default_factory=dict)
    """For attentive probes: of the pretrained backbone, and of fresh ones by seed."""

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
    problems: Sequence[Problem]


def probe_subsets(
    given: Sequence[SubsetInput], late: Sequence[Problem] = (), workers: int = 1
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
        ValueError: See `eval.probes.linear_probe.fit_split`.
    """
    results = _fit_all(given, late, workers)
    dims = {part.subset: part.pretrained.shape[1] for part in given}
    measure, seeds = given[0].measure, tuple(given[0].random)
    rows = [_row(part.subset, dims[part.subset], part.problems, seeds) for part in given]
    if late:
        dim = sum(dims.get(name, 0) for name in MODALITIES)
        rows.append(_row(EVEN_VOTE, dim, late, seeds))
    return {row.subset: report_subset(row, measure, results[row.subset]) for row in rows}


def _row(subset: str, dim: int, problems: Sequence[Problem], seeds: tuple[str, ...]) -> Row:
    share = mean_test_share(problems)
    return Row(subset=subset, dim=dim, problems=problems, seeds=seeds, test_share=share)


def _fit_all(
    given: Sequence[SubsetInput], late: Sequence[Problem], workers: int
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


def _vote(fits: Mapping[str, Sequence[Fit]], problems: Sequence[Problem]) -> list[SplitResult]:
    """The even vote on each split; what its probes did not converge on is told in their rows."""
    return [
        _vote_on({name: made[place] for name, made in fits.items()}, problem)
        for place, problem in enumerate(problems)
    ]


def _vote_on(fits: Mapping[str, Fit], problem: Problem) -> SplitResult:
    found = fuse_late({name: fit.ballot for name, fit in fits.items()}, problem)
    return SplitResult(
        scores=found.scores,
        inverse_regularisation=None,
        num_unconverged=0,
        predicted=found.predicted,
    )
