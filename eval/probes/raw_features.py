"""Baselines without any network: n-grams, pixels, statistics of the log-mel spectrogram.

They read the preprocessed inputs that the backbones read, meet the same splits and are given the
same grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy.sparse import csr_matrix, hstack
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from data_sharding.batch import TripleBatch
from data_sharding.parallel import in_processes
from eval.card import Task
from eval.metrics import score
from eval.probes.arms import ArmScores, arm_scores, collect
from eval.probes.board import make_board
from eval.probes.fits import Fit, FitJob, fit_all_splits
from eval.probes.floors import fit_unit_rows, tfidf_rows
from eval.probes.late_fusion import Ballot
from eval.probes.linear_probe import SplitProblem
from eval.probes.probe import ProbeConfig
from eval.representations import modalities_of
from eval.samples import read_samples
from pretrain.models import Backbone
from pretrain.models.preprocess import to_unit_range

RAW = "raw"
"""Name of the baselines' arm."""

PIXELS = 16
"""Side of the picture that pixels are read from."""


@dataclass(frozen=True, kw_only=True)
class RawJob:
    """All raw features side by side, or n-grams alone; what a worker process is given."""

    texts: Sequence[str]
    blocks: Sequence[tuple[Float32[np.ndarray, "sample _"], Bool[np.ndarray, "sample"]]]
    """Dense features, and the samples that have them."""
    problems: Sequence[SplitProblem]


def raw_scores(task: Task, decoding: Backbone, config: ProbeConfig | None = None) -> ArmScores:
    """Score the raw-feature baselines as one arm, named ``raw``.

    ``text`` is TF-IDF, ``image`` pixels, ``audio`` log-mel statistics, ``fused`` all that a
    sample has of them, side by side, ``fused_text_image`` and its like exactly these;
    ``late`` and ``late_weighted`` are the votes of the single ones.

    Args:
        task: What to probe on.
        decoding: Its decoder, preprocessing and spectrogram read the samples; its weights do not.
        config: As for `eval.probes.arms.probe_arms`.

    Raises:
        ValueError: The task cannot be probed.
    """
    config = ProbeConfig() if config is None else config
    reader = {RAW: lambda batch: raw_features(batch, decoding)}
    samples, made = read_samples(decoding, task, config.batch_size, reader)
    board = make_board(task, samples, config)
    texts = [text or "" for text in samples.texts]
    jobs: dict[str, RawJob | FitJob] = {}
    for name, problems in board.problems.items():
        if name in made[RAW]:
            jobs[name] = FitJob(features=made[RAW][name], problems=problems)
            continue
        read = modalities_of(name)
        jobs[name] = RawJob(
            texts=texts if "text" in read else (),
            blocks=[(made[RAW][part], samples.has(part)) for part in read if part in made[RAW]],
            problems=problems,
        )
    done = in_processes(_fit, list(jobs.values()), config.fit_workers, "raw features")
    fits = dict(zip(jobs, done, strict=True))
    metric = task.card.metric
    return collect(board, metric, {RAW: arm_scores(board, fits, metric)}, {RAW: fits})


def raw_features(
    batch: TripleBatch, decoding: Backbone
) -> dict[str, Float32[np.ndarray, "batch _"]]:
    """Pixels and log-mel statistics of a preprocessed batch, from its first view."""
    pixels = F.interpolate(to_unit_range(batch.image[:, 0]), size=(PIXELS, PIXELS), mode="area")
    device = decoding.image_mean.device
    log_mel = decoding.log_mel(batch.waveform[:, 0].to(device)).cpu()
    hop = decoding.stats.log_mel.hop_samples
    lengths = [_num_samples(waveform) // hop + 1 for waveform in batch.waveform[:, 0]]
    rows = [log_mel_statistics(log_mel[row, :, :end]) for row, end in enumerate(lengths)]
    return {"image": pixels.flatten(1).numpy(), "audio": torch.stack(rows).numpy()}


def log_mel_statistics(log_mel: Float[Tensor, "mel frame"]) -> Float[Tensor, "statistic"]:
    """Per mel channel: mean, deviation, extremes over frames, and the same of its change.

    The last number is the count of frames.
    """
    change = F.pad(log_mel.diff(dim=1), (0, 1)) if log_mel.shape[1] > 1 else log_mel * 0.0
    parts = [
        statistic
        for course in (log_mel, change)
        for statistic in (
            course.mean(1),
            course.std(1, correction=0),
            course.amin(1),
            course.amax(1),
        )
    ]
    return torch.cat([*parts, torch.tensor([float(log_mel.shape[1])])])


def _num_samples(waveform: Float[Tensor, "time"]) -> int:
    """Samples before the silence of exact zeros that pads a clip; all of them if all are 0."""
    sound = torch.nonzero(waveform)
    return int(sound[-1]) + 1 if len(sound) else len(waveform)


def _fit(job: RawJob | FitJob) -> list[Fit]:
    if isinstance(job, FitJob):
        return fit_all_splits(job)
    with threadpool_limits(1):
        return [_fit_unit_rows(job, problem) for problem in job.problems]


def _fit_unit_rows(job: RawJob, problem: SplitProblem) -> Fit:
    split = problem.split
    rows = _side_by_side(job, problem)
    fitted = fit_unit_rows(rows, problem)
    has = np.zeros(len(problem.labels), dtype=bool)
    has[np.concatenate([split.validation, split.test])] = True
    votes = np.zeros((len(has), problem.num_classes))
    votes[has] = fitted.model.predict_proba(rows[has])
    predicted = np.argmax(votes[split.test], axis=1).astype(np.int64)
    return Fit(
        scores=score(problem.labels[split.test], predicted, problem.num_classes),
        ballot=Ballot(votes=votes, has=has),
        inverse_regularisation=fitted.inverse_regularisation,
        num_unconverged=fitted.num_unconverged,
    )


def _side_by_side(job: RawJob, problem: SplitProblem) -> csr_matrix:
    """Rows of all samples; each kind of feature is a block of about unit length.

    Standardised on the training part; a missing modality is the mean of those that have it.
    """
    columns = [tfidf_rows(job.texts, problem.split)] if any(job.texts) else []
    for values, has in job.blocks:
        known = problem.split.train[has[problem.split.train]]
        if len(known) == 0:
            continue
        scaled = np.asarray(StandardScaler().fit(values[known]).transform(values))
        scaled[~has] = 0.0
        columns.append(csr_matrix(scaled / np.sqrt(values.shape[1])))
    return csr_matrix(hstack(columns))
