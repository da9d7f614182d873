"""What one rank of a pretraining run does, from the rendezvous to its exit code."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from data_sharding.batch import TripleBatch
from launch.drift import covered
from launch.errors import USER_ERRORS
from launch.preemption import (
    EXIT_COLLAPSED,
    EXIT_NOT_FINITE,
    EXIT_REFUSED,
    EXIT_REQUEUE,
    StopRequest,
    ignore_signals,
)
from launch.probes.hook import ProbeOnCheckpoint
from launch.rendezvous import refuse_taken_port, rendezvous
from launch.run_config import RunConfig
from launch.run_data import RunData, check_data
from launch.watchdog import Watchdog
from pretrain.checkpoint import COMPLETE, Checkpoint
from pretrain.health import Verdict, last_healthy
from pretrain.models import Backbone

if TYPE_CHECKING:
    from pretrain.build import Training
    from pretrain.step import StepReport
    from pretrain.trainer import Run

logger = logging.getLogger(__name__)


def work(config: RunConfig, stop: StopRequest, prepare: Callable[[], None] = lambda: None) -> int:
    """Train as one rank of a run; returns the exit code.

    Args:
        config: The run.
        stop: Whether a signal asked for a stop.
        prepare: Done by the first rank when all have met; what it refuses is refused on all.
    """
    place = rendezvous()
    refuse_taken_port(place, os.environ)
    watchdog = Watchdog(config.run, place.rank, place.world_size, config.guard)
    # Imported late: DeepSpeed takes seconds, and a bad configuration should be told at once.
    from pretrain.checkpoint.group import GroupRanks
    from pretrain.engine import join_process_group, leave_process_group

    try:
        join_process_group(config.guard.collective_minutes)
        code = _work_together(config, stop, prepare, watchdog)
        # The first rank does more at the end, and who leaves before it has it killed.
        with watchdog.doing("the end, where all ranks meet"):
            GroupRanks().gather(None)
        ignore_signals()
        return code
    finally:
        leave_process_group()
        watchdog.close()


def _work_together(
    config: RunConfig, stop: StopRequest, prepare: Callable[[], None], watchdog: Watchdog
) -> int:
    from launch.admission import RefusalError, admitted, end_start

    first = int(os.environ["RANK"]) == 0
    try:
        with admitted(config, prepare) as admission:
            if admission.finished:
                return 0
            end = end_start if first else lambda run, code: None
            try:
                code = _train(config, admission.checkpoint, stop, watchdog)
            except USER_ERRORS:
                end(config.run, EXIT_REFUSED)
                raise
            end(config.run, code)
            return code
    except RefusalError as refusal:
        if first:
            print(f"triptych: {refusal}", file=sys.stderr)
        return refusal.code


def _train(
    config: RunConfig, checkpoint: Checkpoint | None, stop: StopRequest, watchdog: Watchdog
) -> int:
    from pretrain.engine.process_group import DEVICE
    from pretrain.kernels import chosen

    with chosen(config.pretrain.kernels, DEVICE):
        return _train_with(config, checkpoint, stop, watchdog)


def _train_with(
    config: RunConfig, checkpoint: Checkpoint | None, stop: StopRequest, watchdog: Watchdog
) -> int:
    from pretrain.build import Training
    from pretrain.step import NonFiniteLossError
    from pretrain.trainer import train

    training = Training(config.pretrain, config.run, checkpoint, watchdog.alive)
    first = training.rank == 0
    try:
        data = _checked_data(config, training)
        if first:
            data.write(config.run)
        run = _watched(training.run(evaluate_hook(config)), watchdog)
        watchdog.training(training.progress.step)
        with checkpoint_hook(config) as on_checkpoint:
            progress = train(
                run,
                training.progress,
                on_checkpoint=on_checkpoint,
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
    if progress.step >= config.pretrain.total_steps:
        return 0
    if first:
        where = f"{config.run}: saved at step {progress.step}"
        print(f"triptych: {where}; --resume goes on from there", file=sys.stderr)
    return EXIT_REQUEUE


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
    markers = (config.run / "checkpoints").glob(f"step-????????/{COMPLETE}")
    good = max((marker.parent for marker in markers), default="none was written yet")
    return (
        f"triptych: {config.run}: stopped, {config.pretrain.max_skipped_in_a_row} batches in a row "
        "had a loss or gradient that is not finite (pretrain.max_skipped_in_a_row); the log names "
        "ranks, terms and samples. No weight was changed by them. The last good checkpoint: "
        f"{good}. A lower pretrain.optim.learning_rate "
        "(--resume --allow-drift pretrain.optim) or fp32 may help; bad samples are best taken out"
    )


def collapse_message(run: Path, verdict: Verdict) -> str:
    """What stopped the run, and where to go on from."""
    folders = sorted((run / "checkpoints").glob("step-????????"))
    advice = "No checkpoint of this run was written while it was healthy."
    if (healthy := last_healthy(folders)) is not None:
        newer = ", ".join(folder.name for folder in folders if folder.name > healthy.name)
        advice = f"The last healthy checkpoint: {healthy}"
        if newer:
            advice += (
                f"\n--resume takes the newest: to go on from the healthy one, first move {newer} "
                f"out of {run / 'checkpoints'}"
            )
    findings = "\n".join(f"  - {sentence}" for sentence in verdict.sentences())
    return f"{run}: stopped at step {verdict.step}, the run has collapsed.\n{findings}\n{advice}"


def evaluate_hook(config: RunConfig) -> Callable[[Backbone], Mapping[str, float]]:
    """The online kNN score on the run's labelled task; nothing where none is named."""
    if config.online_knn is None or int(os.environ["RANK"]) != 0:
        return lambda backbone: {}
    from eval.probes.knn import OnlineKnn
    from eval.tasks import load_task

    return OnlineKnn(load_task(config.online_knn))


@contextmanager
def checkpoint_hook(config: RunConfig) -> Iterator[Callable[[Path], None]]:
    """What the first rank does after a checkpoint: probe jobs on a cluster, else nothing.

    At the end all jobs are submitted.
    """
    if config.cluster != "slurm" or not config.probe_tasks or int(os.environ["RANK"]) != 0:
        yield lambda folder: None
    else:
        with closing(ProbeOnCheckpoint(config.run, config.probe_tasks)) as hook:
            yield hook
