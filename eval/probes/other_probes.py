"""Other questions to the same frozen representations, on the same splits as the linear probe.

kNN asks what lies close together, an attentive probe what the tokens tell that the embedding does
not, few-shot probes what few labels suffice for. Each is asked of the pretrained and of fresh
backbones alike; test is read once a split, in `eval.probes.fits.read_test`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from threadpoolctl import threadpool_limits

from data_sharding.parallel import in_processes
from data_sharding.progress import track
from eval.probes.attentive import AttentiveConfig
from eval.probes.attentive_fit import fit_attentive
from eval.probes.attentive_tokens import TokenTable
from eval.probes.few_shot import FewShotConfig, few_shot_name, few_shot_problems
from eval.probes.fits import FitJob, Selected, fit_all_splits, read_test
from eval.probes.knn_probe import KnnProbeConfig, fit_knn
from eval.probes.late_fusion import EVEN_VOTE
from eval.probes.linear_probe import SplitResult
from eval.probes.probe_report import OTHERS, OtherProbe, ProbeReport, SubsetReport
from eval.probes.problems import mean_test_share
from eval.probes.regression import Problem
from eval.probes.subset_probe import SubsetInput
from eval.probes.subset_report import PRETRAINED, Row, report_other

Kind = Literal["knn", "attentive", "few-shot"]

NO_FEATURES = "it is a vote of linear probes, and has no features of its own"
NO_TOKENS = "its encoder gives one token a sample, so there is nothing to choose among"
ATTENTIVE_SEEDS = ("0",)
"""Fresh backbones whose tokens are kept: those of one fill as much memory as the pretrained's."""


@dataclass(frozen=True, kw_only=True)
class OtherProbes:
    """What else is asked."""

    kinds: tuple[Kind, ...] = ()
    knn: KnnProbeConfig = field(default_factory=KnnProbeConfig)
    attentive: AttentiveConfig = field(default_factory=AttentiveConfig)
    few_shot: FewShotConfig = field(default_factory=FewShotConfig)

    @property
    def names(self) -> list[str]:
        """As a report names them."""
        found: list[str] = []
        for kind in self.kinds:
            several = kind == "few-shot"
            found += map(few_shot_name, self.few_shot.shares) if several else [kind]
        return found


@dataclass(frozen=True, kw_only=True)
class KnnJob:
    """kNN on one representation of one backbone, over all splits."""

    features: Float32[np.ndarray, "sample dim"]
    problems: Sequence[Problem]
    config: KnnProbeConfig


@dataclass(frozen=True, kw_only=True)
class AttentiveJob:
    """Attentive probes of one representation of one backbone, over all splits."""

    tokens: TokenTable
    problems: Sequence[Problem]
    config: AttentiveConfig
    device: torch.device


Job = KnnJob | FitJob

Results = dict[tuple[str, str, str], Sequence[SplitResult]]
"""By representation, probe and backbone; one for each split."""


def probe_others(
    reports: Mapping[str, SubsetReport],
    given: Sequence[SubsetInput],
    asked: OtherProbes,
    workers: int = 1,
    device: torch.device | None = None,
) -> dict[str, SubsetReport]:
    """The reports with what the other probes found.

    Args:
        reports: By representation.
        given: Features, tokens and splits of the representations.
        asked: Which probes, and their grids.
        workers: Processes that fit kNN and few-shot probes; scores do not depend on it.
        device: Where attentive probes are trained, one after the other; None: CPU.

    Raises:
        ValueError: See `eval.probes.knn_probe`, `eval.probes.attentive_fit` and
            `eval.probes.linear_probe`.
    """
    found = dict(reports)
    jobs = {
        (part.subset, *key): job for part in given for key, job in _jobs_of(part, asked).items()
    }
    done = in_processes(_fit, list(jobs.values()), workers, "other probes")
    results: Results = dict(zip(jobs, done, strict=True))
    results |= _attend(given, asked, device or torch.device("cpu"))
    for part in given:
        found[part.subset] = _with_others(found[part.subset], part, asked, results)
    if EVEN_VOTE in found:
        missing = dict.fromkeys(asked.names, NO_FEATURES)
        found[EVEN_VOTE] = replace(found[EVEN_VOTE], others_missing=missing)
    return found


def keep_others(report: ProbeReport, known: ProbeReport) -> ProbeReport:
    """The report, and the kinds of other probes that only an earlier one holds.

    Args:
        report: What was measured now.
        known: A report of the same checkpoint and task with an equal linear probe. A kind that
            both hold is that of ``report``, which says so.
    """
    asked, before = (part.protocol.get(OTHERS, {}) for part in (report, known))
    kept = before.keys() - asked.keys()
    replaced = sorted(kind for kind in before.keys() & asked if before[kind] != asked[kind])

    def merged(name: str, part: SubsetReport) -> SubsetReport:
        old = known.subsets[name]
        others = {key: other for key, other in old.others.items() if _kind(key) in kept}
        missing = {key: why for key, why in old.others_missing.items() if _kind(key) in kept}
        return replace(
            part,
            others={**others, **part.others},
            others_missing={**missing, **part.others_missing},
        )

    told = [f"{kind}: an earlier probe with other options was replaced" for kind in replaced]
    return replace(
        report,
        subsets={name: merged(name, part) for name, part in report.subsets.items()},
        protocol={**report.protocol, OTHERS: {**before, **asked}},
        findings=(*report.findings, *told),
    )


def _kind(name: str) -> str:
    """``few-shot`` of ``few-shot 5 %``; other names are kinds."""
    return name.partition(" ")[0]


def fit_knn_splits(job: KnnJob) -> list[SplitResult]:
    """A kNN probe for each split.

    Raises:
        ValueError: See `eval.probes.knn_probe.fit_knn`.
    """
    features, made = job.features.astype(np.float64), []
    for problem in job.problems:
        fitted = fit_knn(features, problem, job.config)
        chosen = {"num_neighbours": fitted.num_neighbours, "temperature": fitted.temperature}
        selected = Selected(mark=fitted.mark, chosen=chosen)
        made.append(read_test(problem, fitted.votes(features[problem.split.test]), selected))
    return made


def fit_attentive_split(job: AttentiveJob, place: int) -> SplitResult:
    """An attentive probe for one split; its seed is the split's place.

    Raises:
        ValueError: See `eval.probes.attentive_fit.fit_attentive`.
    """
    problem = job.problems[place]
    fitted = fit_attentive(job.tokens, problem, job.config, place, job.device)
    chosen = {"learning_rate": fitted.learning_rate, "epoch": fitted.epoch}
    selected = Selected(mark=fitted.mark, chosen=chosen)
    return read_test(problem, fitted.votes(problem.split.test), selected)


def _fit(job: Job) -> Sequence[SplitResult]:
    if isinstance(job, KnnJob):
        with threadpool_limits(1):
            return fit_knn_splits(job)
    return [fit.without_votes() for fit in fit_all_splits(job)]


def _problems_of(part: SubsetInput, asked: OtherProbes) -> dict[str, Sequence[Problem]]:
    """The splits of each probe, by its name."""
    found: dict[str, Sequence[Problem]] = {}
    for kind in asked.kinds:
        if kind == "few-shot":
            for share in asked.few_shot.shares:
                found[few_shot_name(share)] = few_shot_problems(part.problems, share)
        else:
            found[kind] = part.problems
    return found


def _jobs_of(part: SubsetInput, asked: OtherProbes) -> dict[tuple[str, str], Job]:
    """What worker processes fit for a representation, by probe and backbone."""
    jobs: dict[tuple[str, str], Job] = {}
    for name, problems in _problems_of(part, asked).items():
        for backbone, values in {PRETRAINED: part.pretrained, **part.random}.items():
            if name == "knn":
                jobs[name, backbone] = KnnJob(features=values, problems=problems, config=asked.knn)
            elif name != "attentive":
                jobs[name, backbone] = FitJob(features=values, problems=problems)
    return jobs


def _attend(
    given: Sequence[SubsetInput], asked: OtherProbes, device: torch.device
) -> dict[tuple[str, str, str], list[SplitResult]]:
    """Attentive probes, in this process: tokens are too many to be handed to others."""
    if "attentive" not in asked.kinds:
        return {}
    jobs = {
        (part.subset, "attentive", backbone): AttentiveJob(
            tokens=tokens, problems=part.problems, config=asked.attentive, device=device
        )
        for part in given
        for backbone, tokens in part.tokens.items()
        if tokens.num_parts > 1
    }
    results: dict[tuple[str, str, str], list[SplitResult]] = {key: [] for key in jobs}
    todo = [(key, place) for key, job in jobs.items() for place in range(len(job.problems))]
    for key, place in track(todo, "attentive probes", len(todo)):
        results[key].append(fit_attentive_split(jobs[key], place))
    return results


def _with_others(
    report: SubsetReport, part: SubsetInput, asked: OtherProbes, results: Results
) -> SubsetReport:
    others: dict[str, OtherProbe] = {}
    for name, problems in _problems_of(part, asked).items():
        own = {
            backbone: made
            for (subset, probe, backbone), made in results.items()
            if (subset, probe) == (part.subset, name)
        }
        if own:
            seeds = tuple(backbone for backbone in own if backbone != PRETRAINED)
            row = Row(
                subset=part.subset,
                dim=report.dim,
                problems=problems,
                seeds=seeds,
                # Of few draws n_test / n_learn is larger, and yet they overlap less.
                test_share=mean_test_share(part.problems),
            )
            others[name] = report_other(row, part.measure, own)
    missing = {name: NO_TOKENS for name in asked.names if name not in others}
    return replace(report, others=others, others_missing=missing)
