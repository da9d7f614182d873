"""The loop. It knows no modality, no DeepSpeed, no Slurm and no probe."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_sharding.batch import TripleBatch
from pretrain.checkpoint import Progress
from pretrain.metrics import Sink
from pretrain.step import NonFiniteLossError, StepReport

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Run:
    """The parts of a training run, wired by `build`.

    Args:
        batches: Samples consumed -> this rank's batches from there on, without end.
        step: Trains on one batch, or changes nothing and raises `NonFiniteLossError`.
        save: Begins a checkpoint; waits for the one before. Collective.
        saved: The checkpoints that have become whole since it was last asked; True waits for the
            one that is being written. Collective.
        agree: Whether something holds on every rank. Collective.
        sink: Takes the metrics, on the first rank.
        measure: What a logged step adds to the metrics.
    """

    total_steps: int
    global_samples: int
    checkpoint_every_steps: int
    log_every_steps: int
    max_skipped_in_a_row: int
    batches: Callable[[int], Iterator[TripleBatch]]
    step: Callable[[TripleBatch, int], StepReport]
    save: Callable[[Progress], None]
    saved: Callable[[bool], list[Path]]
    agree: Callable[[bool], bool]
    sink: Sink
    measure: Callable[[Progress, StepReport], dict[str, float]]


def train(
    run: Run,
    progress: Progress,
    *,
    on_checkpoint: Callable[[Path], None] = lambda folder: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Train from ``progress`` to the end, or until any rank should stop. Collective.

    Args:
        run: The parts.
        progress: Where the run is.
        on_checkpoint: Called on every rank with each checkpoint's folder once it is whole.
        should_stop: Asked after each step; a checkpoint is written before returning.

    Returns:
        Where the run is now; its last checkpoint leads here.

    Raises:
        NonFiniteLossError: ``max_skipped_in_a_row`` batches in a row changed nothing; on all ranks.
    """
    if progress.step >= run.total_steps:
        return progress
    skipped_in_a_row, saved_step = 0, progress.step
    for batch in run.batches(progress.samples_consumed):
        before, progress = progress, _advance(run, batch, progress)
        skipped_in_a_row = skipped_in_a_row + 1 if progress.step == before.step else 0
        if skipped_in_a_row == run.max_skipped_in_a_row:
            _tell(on_checkpoint, run.saved(True))
            raise NonFiniteLossError(f"{skipped_in_a_row} batches in a row; the log names them")
        stop = progress.step == run.total_steps or not run.agree(not should_stop())
        due = stop or progress.step % run.checkpoint_every_steps == 0
        if due and progress.step > saved_step:
            run.save(progress)
            saved_step = progress.step
        _tell(on_checkpoint, run.saved(stop))
        if stop:
            break
    return progress


def _advance(run: Run, batch: TripleBatch, progress: Progress) -> Progress:
    """Train on a batch, or pass it over."""
    try:
        report = run.step(batch, progress.step)
    except NonFiniteLossError as error:
        logger.warning("step %d: batch passed over: %s", progress.step + 1, error)
        return progress.passed_over(run.global_samples)
    progress = progress.advanced(run.global_samples)
    if progress.step % run.log_every_steps == 0:
        run.sink.write(progress.step, run.measure(progress, report))
    return progress


def _tell(on_checkpoint: Callable[[Path], None], folders: list[Path]) -> None:
    for folder in folders:
        on_checkpoint(folder)
