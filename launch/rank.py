"""What one rank of a pretraining run does, from the rendezvous to its exit code."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_sharding.batch import TripleBatch
from launch.drift import covered
from launch.jobs import ProbeOnCheckpoint
from launch.preemption import (
    EXIT_COLLAPSED,
    EXIT_NOT_FINITE,
    EXIT_REFUSED,
    EXIT_REQUEUE,
    StopRequest,
)
from launch.rendezvous import rendezvous
from launch.run_config import RunConfig
from launch.run_data import RunData, check_data
from launch.watchdog import Watchdog
from pretrain.checkpoint import Checkpoint, newest_complete
from pretrain.health import Verdict, last_healthy
from pretrain.models import Backbone

if TYPE_CHECKING:
    from pretrain.build import Training
    from pretrain.step import StepReport
    from pretrain.trainer import Run

logger = logging.getLogger(__name__)


def work(config: RunConfig, stop: StopRequest) -> int:
    """Train as one rank of a prepared run; returns the exit code."""
    place = rendezvous()
    watchdog = Watchdog(config.run, place.rank, place.world_size, config.guard)
    # Imported late: DeepSpeed takes seconds, and a bad configuration should be told at once.
    from launch.admission import RefusalError, admitted, end_start
    from pretrain.engine import join_process_group, leave_process_group

    try:
        join_process_group(config.guard.collective_minutes)
        with admitted(config) as admission:
            if admission.finished:
                return 0
            end = end_start if place.rank == 0 else lambda run, code: None
            try:
                code = _train(config, admission.checkpoint, stop, watchdog)
            except ValueError:
                end(config.run, EXIT_REFUSED)
                raise
            end(config.run, code)
            return code
    except RefusalError as refusal:
        if place.rank == 0:
            print(f"triptych: {refusal}", file=sys.stderr)
        return refusal.code
    finally:
        leave_process_group()
        watchdog.close()


def _train(
    config: RunConfig, checkpoint: Checkpoint | None, stop: StopRequest, watchdog: Watchdog
) -> int:
    from pretrain.build import Training
    from pretrain.step import NonFiniteLossError
    from pretrain.trainer import train

    training = Training(config.pretrain, config.run, checkpoint)
    first = training.rank == 0
    try:
        data = _checked_data(config, training)
        if first:
            data.write(config.run)
        run = _watched(training.run(evaluate_hook(config)), watchdog)
        watchdog.training(training.progress.step)
        progress = train(
            run,
            training.progress,
            on_checkpoint=checkpoint_hook(config) if first else lambda folder: None,
            should_stop=lambda: stop() or training.health.asks_to_stop(),
        )
    except NonFiniteLossError:
        if first:
            print(not_finite_message(config), file=sys.stderr)
        return EXIT_NOT_FINITE
    finally:
        training.close()
    if training.health.asks_to_stop():
        if first:
            print(collapse_message(config.run, training.health.verdict), file=sys.stderr)
        return EXIT_COLLAPSED
    return 0 if progress.step >= config.pretrain.total_steps else EXIT_REQUEUE


def _checked_data(config: RunConfig, training: "Training") -> RunData:
    """What the run reads; another than before where that is allowed, and then said."""
    consumed = training.progress.samples_consumed
    try:
        return check_data(
            config.run, training.source, consumed, config.pretrain.batch.global_samples
        )
    except ValueError as error:
        if not covered("pretrain.data", config.allow_drift):
            raise
        if training.rank == 0:
            logger.warning("%s: goes on all the same: %s", config.run, error)
        return RunData.of(training.source)


def _watched(run: "Run", watchdog: Watchdog) -> "Run":
    """The same run, whose parts give signs of life."""

    def step(batch: TripleBatch, number: int) -> "StepReport":
        with watchdog.doing("training step"):
            report = run.step(batch, number)
        watchdog.step_done(number + 1)
        return report

    return replace(
        run,
        step=step,
        save=watchdog.watch("checkpoint", run.save),
        saved=watchdog.watch("checkpoint's end", run.saved),
        measure=watchdog.watch("metrics and evaluation", run.measure),
    )


def not_finite_message(config: RunConfig) -> str:
    """What stopped the run, and where it is still good."""
    good = newest_complete(config.run)
    return (
        f"triptych: {config.run}: stopped, {config.pretrain.max_skipped_in_a_row} batches in a row "
        "had a loss or gradient that is not finite (pretrain.max_skipped_in_a_row); the log names "
        "ranks, terms and samples. No weight was changed by them. The last good checkpoint: "
        f"{good.folder if good else 'none was written yet'}. A lower pretrain.optim.learning_rate "
        "(--resume --allow-drift pretrain.optim) or fp32 may help; bad samples are best taken out"
    )


def collapse_message(run: Path, verdict: Verdict) -> str:
    """What stopped the run, and where to go on from."""
    healthy = last_healthy(list((run / "checkpoints").glob("step-????????")))
    advice = (
        f"The last healthy checkpoint: {healthy}"
        if healthy
        else "No checkpoint of this run was written while it was healthy."
    )
    findings = "\n".join(f"  - {sentence}" for sentence in verdict.sentences())
    return f"{run}: stopped at step {verdict.step}, the run has collapsed.\n{findings}\n{advice}"


def evaluate_hook(config: RunConfig) -> Callable[[Backbone], Mapping[str, float]]:
    """The online kNN score on the run's labelled task; nothing where none is named."""
    if config.online_knn is None or int(os.environ["RANK"]) != 0:
        return lambda backbone: {}
    from eval.knn import OnlineKnn
    from eval.tasks import load_task

    return OnlineKnn(load_task(config.online_knn))


def checkpoint_hook(config: RunConfig) -> Callable[[Path], None]:
    """What happens after a checkpoint: a probe job per task on a cluster, else nothing."""
    if config.cluster != "slurm" or not config.probe_tasks:
        return lambda folder: None
    return ProbeOnCheckpoint(config.probe_tasks, config.slurm)
