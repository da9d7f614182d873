"""Many backbones on one task: the arms of a table, without floors of their own.

The samples are decoded once for all arms that share a preprocessing, every arm meets the same
splits and the same grid, and what comes back is one score for each arm, representation and split:
the numbers that `eval.probes.arm_comparison` compares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from data_sharding.parallel import in_processes
from data_sharding.schema import MODALITIES
from eval.card import Task
from eval.metrics import Scores
from eval.probes.board import Board, make_board
from eval.probes.features import extract_features, preprocessing_digest
from eval.probes.fits import Fit, FitJob, fit_all_splits
from eval.probes.floors import constant_split
from eval.probes.late_fusion import EVEN_VOTE, fuse_late, fuse_late_weighted
from eval.probes.probe import ProbeConfig
from eval.probes.problems import mean_test_share
from eval.regression_metrics import RegressionScores
from eval.samples import TaskSamples
from pretrain.models import Backbone

ByRepresentation = Mapping[str, Float32[np.ndarray, "sample _"]]

LATE = {EVEN_VOTE: fuse_late, "late_weighted": fuse_late_weighted}
"""Decision-level fusions, given where two single modalities or more are probed."""


@dataclass(frozen=True, kw_only=True)
class ArmScores:
    """The task's metric (macro-F1 unless its card says otherwise) on each test part."""

    metric: str
    scores: Mapping[str, Mapping[str, tuple[float, ...]]]
    """By arm and representation: one score for each split, in the order of the splits."""
    majority: Mapping[str, tuple[float, ...]]
    """By representation: the commonest class of the training part."""
    test_share: Mapping[str, float]
    """By representation: mean of n_test / n_learn, for the corrected interval."""
    num_samples: Mapping[str, int]
    """By representation: samples of the first split, the ones only trained on included."""
    num_unconverged: Mapping[str, int]
    """By arm: fits of the grid that stopped at their bound."""


def probe_arms(
    backbones: Mapping[str, Backbone], task: Task, config: ProbeConfig | None = None
) -> ArmScores:
    """Probe every backbone on the task's splits.

    Arms may differ in architecture. They are read where they lie and as they are: give fresh
    networks their batch-norm statistics first (`eval.probes.features.recompute_batch_norm`).

    Args:
        backbones: By the arm's name.
        task: What to probe on.
        config: ``representations``, ``rows``, ``splits``, ``copies``, ``linear``, ``batch_size``
            and ``fit_workers`` count here.

    Raises:
        ValueError: No backbone, or the task cannot be probed.
    """
    config = ProbeConfig() if config is None else config
    samples, features = _read(backbones, task, config)
    board = make_board(task, samples, config)
    jobs = {
        (arm, name): FitJob(features=features[arm][name], problems=problems)
        for arm in backbones
        for name, problems in board.problems.items()
    }
    done = in_processes(fit_all_splits, list(jobs.values()), config.fit_workers, "probes")
    fits = dict(zip(jobs, done, strict=True))
    by_arm = {arm: {name: fits[arm, name] for name in board.problems} for arm in backbones}
    scored = {arm: arm_scores(board, fitted, task.card.metric) for arm, fitted in by_arm.items()}
    return collect(board, task.card.metric, scored, by_arm)


def collect(
    board: Board,
    metric: str,
    scores: Mapping[str, Mapping[str, tuple[float, ...]]],
    fits: Mapping[str, Mapping[str, Sequence[Fit]]],
) -> ArmScores:
    """Scores with the majority floor and the sizes of what they were read on."""
    names = dict.fromkeys(name for marks in scores.values() for name in marks)
    problems = {name: board.problems.get(name, board.late) for name in names}
    return ArmScores(
        metric=metric,
        scores=scores,
        majority={
            name: _metric([constant_split(problem).scores for problem in posed], metric)
            for name, posed in problems.items()
        },
        test_share={name: mean_test_share(posed) for name, posed in problems.items()},
        num_samples={name: posed[0].split.num_rows for name, posed in problems.items()},
        num_unconverged={
            arm: sum(fit.num_unconverged for made in fitted.values() for fit in made)
            for arm, fitted in fits.items()
        },
    )


def arm_scores(
    board: Board, fits: Mapping[str, Sequence[Fit]], metric: str
) -> dict[str, tuple[float, ...]]:
    """Test scores of each representation, and of the votes."""
    marks = {name: [fit.scores for fit in made] for name, made in fits.items()}
    voters = [name for name in MODALITIES if name in fits]
    for name, fuse in LATE.items() if len(voters) > 1 else ():
        marks[name] = [
            fuse({voter: fits[voter][place].ballot for voter in voters}, problem).scores
            for place, problem in enumerate(board.late)
        ]
    return {name: _metric(found, metric) for name, found in marks.items()}


def _read(
    backbones: Mapping[str, Backbone], task: Task, config: ProbeConfig
) -> tuple[TaskSamples, dict[str, ByRepresentation]]:
    """Features of every arm; one pass over the task for each preprocessing."""
    alike: dict[str, dict[str, Backbone]] = {}
    for name, backbone in backbones.items():
        alike.setdefault(preprocessing_digest(backbone), {})[name] = backbone
    features: dict[str, ByRepresentation] = {}
    samples: TaskSamples | None = None
    for group in alike.values():
        samples, made = extract_features(group, task, config.batch_size, config.representations)
        features |= {name: found.by_subset for name, found in made.items()}
    if samples is None:
        raise ValueError("no backbone to probe")
    return samples, features


def _metric(scores: Sequence[Scores | RegressionScores], metric: str) -> tuple[float, ...]:
    return tuple(found.values[metric] for found in scores)
