"""What a run is: its folder, its training, the ranks that do it, and its probes."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from data_sharding.durable import write_durably
from data_sharding.stats import CorpusStats
from data_sharding.stream.source import open_stream
from launch.cluster import ClusterConfig
from launch.drift import check_options, find_drift, refuse_drift, refuse_other_statistics
from launch.guard_config import GuardConfig
from pretrain.checkpoint import newest_complete
from pretrain.config import PretrainConfig, config_from_json, config_to_json

LOCK_FILE = "run.lock"
"""In a run folder while somebody writes there."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A pretraining run."""

    run: Path
    """Run folder: configuration, checkpoints, metrics, probes, report."""

    pretrain: PretrainConfig
    """Data, model, views, objective, schedules."""

    cluster: Literal["local", "slurm", "inline"] = "local"
    """`local`: start the ranks here. `slurm`: submit a job. `inline`: this process is one rank
    that torchrun or Slurm started."""

    ranks: int = 1
    """Ranks that `local` starts."""

    slurm: ClusterConfig = field(default_factory=ClusterConfig)
    """What `slurm` asks for."""

    probe_tasks: tuple[str, ...] = ()
    """Tasks probed after each checkpoint, by name or folder: under `slurm` by an array job of the
    run's own, else by `triptych watch`."""

    online_knn: str | None = None
    """Task, by name or folder, whose labelled samples score the features by nearest neighbours
    every `pretrain.evaluate_every_steps`, while the run goes on."""

    guard: GuardConfig = field(default_factory=GuardConfig)

    allow_drift: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An option that this resume may change although it decides the weights, such as
    `pretrain.total_steps`; `pretrain.optim` names a whole part. May be given several times."""

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ValueError(f"ranks must be positive, got {self.ranks}")
        if self.online_knn is not None and self.pretrain.evaluate_every_steps is None:
            raise ValueError(
                f"online_knn {self.online_knn} would never be asked: "
                "give pretrain.evaluate_every_steps too"
            )
        check_options(self.pretrain, self.allow_drift)

    def with_absolute_paths(self) -> "RunConfig":
        """The same run, whatever folder its ranks are started in."""
        pretrain = replace(
            self.pretrain,
            data=self.pretrain.data.with_absolute_paths(),
            backbone=self.pretrain.backbone.with_absolute_paths(),
        )
        return replace(
            self,
            run=self.run.absolute(),
            pretrain=pretrain,
            probe_tasks=tuple(_absolute_task(task) for task in self.probe_tasks),
            online_knn=self.online_knn and _absolute_task(self.online_knn),
        )

    @property
    def has_gpu(self) -> bool:
        """Whether the run's ranks have GPUs."""
        return (
            self.slurm.gpus_per_node > 0 if self.cluster == "slurm" else torch.cuda.is_available()
        )

    @property
    def world_size(self) -> int:
        """Ranks of the run, where this configuration decides them."""
        return (
            self.slurm.nodes * self.slurm.ranks_per_node if self.cluster == "slurm" else self.ranks
        )


def _absolute_task(task: str) -> str:
    """A task's folder; the name of a built-in task stays."""
    return str(Path(task).absolute()) if Path(task).is_dir() else task


def save_run_config(config: RunConfig) -> None:
    """Write ``config.json`` into the run folder, whole or not at all."""
    config.run.mkdir(parents=True, exist_ok=True)
    path = config.run / "config.json"
    write_durably(path, (json.dumps(config_to_json(config), indent=2) + "\n").encode())


def load_run_config(path: Path) -> RunConfig:
    """Read a ``config.json``, or the one in a run folder.

    Raises:
        ValueError: no such file, no JSON, a key given twice, unknown keys (with a suggestion) or
            bad values.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        content = json.loads(
            file.read_text(), object_pairs_hook=_refuse_twice, parse_constant=_refuse_constant
        )
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: no run configuration: {error}") from error
    return config_from_json(RunConfig, content, str(file))


def prepare_run(config: RunConfig, resume: bool) -> None:
    """Check shards, batch and run folder, then write the configuration.

    Raises:
        ShardError, ValueError: as `check_run`.
    """
    check_run(config, resume)
    save_run_config(config)


def check_run(config: RunConfig, resume: bool, fresh: bool = False) -> None:
    """Refuse what cannot be started, before anything is written.

    Raises:
        ShardError: the shards are none, or without their statistics.
        ValueError: the folder holds a run and neither ``resume`` nor ``fresh`` is true, or both
            are; or ``resume`` is true and there is nothing to resume, or what decides the weights
            has changed.
    """
    config.pretrain.check_ranks(config.world_size)
    config.pretrain.check_kernels(config.has_gpu)
    open_stream(config.pretrain.data.shards, config.pretrain.data.split)
    stats = CorpusStats.load(config.pretrain.data.stats_folder)
    config.pretrain.check_spectrogram(stats.log_mel)
    check_run_folder(config, resume, fresh)


def check_run_folder(config: RunConfig, resume: bool, fresh: bool = False) -> None:
    """Whether a run may begin, or go on, in its folder.

    Raises:
        ValueError: as `check_run`, for the folder.
    """
    if resume and fresh:
        raise ValueError("--resume goes on and --fresh begins anew: give one of them")
    stored = config.run / "config.json"
    if resume:
        if not stored.exists():
            raise ValueError(f"{config.run}: nothing to resume; leave --resume out to start it")
        checkpoint = newest_complete(config.run)
        if checkpoint is None:
            raise ValueError(
                f"{config.run}: no checkpoint to resume from; --fresh instead begins at step 0"
            )
        drift = find_drift(checkpoint.config, config.pretrain)
        refuse_drift(drift, config.allow_drift, str(config.run))
        stats = config.pretrain.data.stats_folder
        refuse_other_statistics(checkpoint.backbone, stats, str(config.run))
    elif stored.exists() and not fresh:
        raise ValueError(
            f"{config.run} holds a run already; --resume continues it, --run names another folder"
        )


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)} is given twice")
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number that an option can have")
