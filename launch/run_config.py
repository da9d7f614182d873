"""What a run is: its folder, its training, the ranks that do it, and its probes."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from data_sharding.stats import CorpusStats
from data_sharding.stream.source import open_stream
from launch.cluster import ClusterConfig
from pretrain.checkpoint import newest_complete
from pretrain.config import PretrainConfig, config_from_json, config_to_json

DECIDE_NO_WEIGHT = (
    "pretrain.data.loader.num_workers",
    "pretrain.data.loader.prefetch_batches",
    "pretrain.data.loader.reader.",
    "pretrain.data.loader.faults.",
    "pretrain.log_every_steps",
    "pretrain.keep_checkpoints",
    "pretrain.evaluate_every_steps",
    "pretrain.health.",
)
"""Options that a resumed run may change."""


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
    """Tasks probed after each checkpoint, by name or folder; a job each under `slurm`."""

    online_knn: str | None = None
    """Task, by name or folder, whose labelled samples score the features by nearest neighbours
    every `pretrain.evaluate_every_steps`, while the run goes on."""

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise ValueError(f"ranks must be positive, got {self.ranks}")
        if self.online_knn is not None and self.pretrain.evaluate_every_steps is None:
            raise ValueError(
                f"online_knn {self.online_knn} would never be asked: "
                "give pretrain.evaluate_every_steps too"
            )

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
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(config_to_json(config), indent=2) + "\n")
    temporary.replace(path)


def load_run_config(path: Path) -> RunConfig:
    """Read a ``config.json``, or the one in a run folder.

    Raises:
        ValueError: no such file, no JSON, unknown keys (with a suggestion) or bad values.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: no run configuration: {error}") from error
    return config_from_json(RunConfig, content, str(file))


def prepare_run(config: RunConfig, resume: bool) -> None:
    """Check shards, batch and run folder, then write the configuration.

    Raises:
        ShardError, ValueError: as `check_run`.
    """
    check_run(config, resume)
    save_run_config(config)


def check_run(config: RunConfig, resume: bool) -> None:
    """Refuse what cannot be started, before anything is written.

    Raises:
        ShardError: the shards are none, or without their statistics.
        ValueError: the folder holds a run and ``resume`` is false; or ``resume`` is true and
            there is nothing to resume, or what decides the weights has changed.
    """
    config.pretrain.check_ranks(config.world_size)
    open_stream(config.pretrain.data.shards, config.pretrain.data.split)
    stats = CorpusStats.load(config.pretrain.data.stats_folder)
    config.pretrain.check_spectrogram(stats.log_mel)
    stored = config.run / "config.json"
    if resume:
        if not stored.exists():
            raise ValueError(f"{config.run}: nothing to resume; leave --resume out to start it")
        refuse_drift(load_run_config(stored), config)
        if newest_complete(config.run) is None:
            raise ValueError(
                f"{config.run}: no whole checkpoint to resume from; remove the folder to restart"
            )
    elif stored.exists():
        raise ValueError(
            f"{config.run} holds a run already; --resume continues it, --run names another folder"
        )


def refuse_drift(before: RunConfig, now: RunConfig) -> None:
    """Refuse to resume when what decides the weights differs.

    Raises:
        ValueError: names each differing option with both values.
    """
    old, new = (_flat(config_to_json(c.pretrain), "pretrain") for c in (before, now))
    changed = [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in old
        if old[key] != new.get(key) and not key.startswith(DECIDE_NO_WEIGHT)
    ]
    if changed:
        raise ValueError(
            f"{now.run}: cannot resume, the configuration changed: {'; '.join(changed)}"
        )


def _flat(content: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}.{key}"
        flat |= _flat(value, name) if isinstance(value, dict) else {name: value}
    return flat
