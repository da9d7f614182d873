"""The loop. It knows no modality, no DeepSpeed, no Slurm and no probe."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_sharding.batch import TripleBatch
from pretrain.checkpoint import Progress
from pretrain.metrics import Sink
from pretrain.step import StepReport


@dataclass(frozen=True, kw_only=True)
class Run:
    """The parts of a training run, wired by `build`.

    Args:
        batches: Samples consumed -> this rank's batches from there on, without end.
        step: Trains on one batch.
        save: Writes a checkpoint and returns its folder. Collective.
        agree: Whether something holds on every rank. Collective.
        sink: Takes the metrics, on the first rank.
        measure: What a logged step adds to the metrics.
    """

    total_steps: int
    global_samples: int
    checkpoint_every_steps: int
    log_every_steps: int
    batches: Callable[[int], Iterator[TripleBatch]]
    step: Callable[[TripleBatch, int], StepReport]
    save: Callable[[Progress], Path]
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
        Where the run is now; its last checkpoint is of this step.
    """
    if progress.step >= run.total_steps:
        return progress
    for batch in run.batches(progress.samples_consumed):
        report = run.step(batch, progress.step)
        progress = progress.advanced(run.global_samples)
        if progress.step % run.log_every_steps == 0:
            run.sink.write(progress.step, run.measure(progress, report))
        stop = progress.step == run.total_steps or not run.agree(not should_stop())
        if stop or progress.step % run.checkpoint_every_steps == 0:
            on_checkpoint(run.save(progress))
        if stop:
            break
    return progress
