"""One rank of a pretraining run: ``python -m launch.worker RUN``.

torchrun, Slurm and `triptych pretrain` all start this; the rendezvous comes from the
environment. It resumes from the newest whole checkpoint of the run, if there is one.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from launch.errors import user_errors
from launch.jobs import ProbeOnCheckpoint
from launch.preemption import EXIT_COLLAPSED, EXIT_REQUEUE, StopRequest
from launch.rendezvous import rendezvous
from launch.run_config import RunConfig, load_run_config
from launch.run_data import check_data
from pretrain.health import Verdict, last_healthy
from pretrain.models import Backbone


def work(config: RunConfig) -> int:
    """Train as one rank of a prepared run; returns the exit code."""
    stop = StopRequest()
    rendezvous()

    # Imported late: DeepSpeed takes seconds, and a bad configuration should be told at once.
    from pretrain.build import Training
    from pretrain.checkpoint import newest_complete
    from pretrain.engine import join_process_group, leave_process_group
    from pretrain.trainer import train

    join_process_group()
    training = Training(config.pretrain, config.run, newest_complete(config.run))
    data = check_data(
        config.run,
        training.source,
        training.progress.samples_consumed,
        config.pretrain.batch.global_samples,
    )
    if training.rank == 0:
        data.write(config.run)
    try:
        progress = train(
            training.run(evaluate_hook(config)),
            training.progress,
            on_checkpoint=checkpoint_hook(config) if training.rank == 0 else lambda folder: None,
            should_stop=lambda: stop() or training.health.asks_to_stop(),
        )
    finally:
        training.close()
        leave_process_group()
    if training.health.asks_to_stop():
        if training.rank == 0:
            print(collapse_message(config.run, training.health.verdict), file=sys.stderr)
        return EXIT_COLLAPSED
    return 0 if progress.step >= config.pretrain.total_steps else EXIT_REQUEUE


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


def main() -> None:
    """Entry point."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with user_errors():
        if len(sys.argv) != 2:
            raise ValueError("usage: python -m launch.worker RUN_FOLDER")
        folder = Path(sys.argv[1])
        # A run folder that was moved is still this run.
        sys.exit(work(replace(load_run_config(folder), run=folder)))


if __name__ == "__main__":
    main()
