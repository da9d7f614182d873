"""PretrainConfig -> Run: the one place where objects are wired.

Over 300 lines, because in two files it would not be one place.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.logmel import LogMel
from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from data_sharding.stream.loader import Slice, TripleLoader
from data_sharding.stream.source import open_stream
from pretrain.checkpoint import Checkpoint, CheckpointWriter, Part, Progress, Write
from pretrain.checkpoint.group import GroupRanks
from pretrain.config import PretrainConfig, config_to_json
from pretrain.ema import Target
from pretrain.engine import Engine, EngineSettings
from pretrain.health import GradientProbe, HealthMonitor, WatchedRun, load_looks, save_verdict
from pretrain.metrics import HEALTH_FILE, Journal, Sinks
from pretrain.metrics.energy import EnergyMeter, MeteredRun, counters_of
from pretrain.models import Backbone
from pretrain.networks import build_cohorts, build_networks, build_objective, checkpoint_bytes
from pretrain.optim import build_optimizer
from pretrain.pace import Pace
from pretrain.step import StepReport, StepSettings, TrainStep
from pretrain.trainer import Run
from pretrain.views import Augment, TrainCrops

logger = logging.getLogger(__name__)

Evaluate = Callable[[Backbone], Mapping[str, float]]
"""Scores of the target's backbone by name, such as ``knn/image``."""


class Training:
    """The wired objects of one rank, and the way to save and restore them.

    Needs a process group (`engine.join_process_group`).

    Args:
        config: The run's configuration.
        folder: The run folder, shared by the ranks.
        resume_from: A checkpoint of this run, of any number of ranks and ZeRO stage, or None.
        alive: Called again and again while training waits for a slow disk.

    Raises:
        ValueError: the shards, the batch or the checkpoint do not fit.
    """

    def __init__(
        self,
        config: PretrainConfig,
        folder: Path,
        resume_from: Checkpoint | None,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._folder = folder
        self.source = open_stream(config.data.shards, config.data.split)
        stats_folder = config.data.stats_folder
        self._stats = CorpusStats.load(stats_folder)
        self._tokenizer_file = stats_folder / TOKENIZER_FILE

        world_size = torch.distributed.get_world_size()
        config.check_ranks(world_size)
        torch.manual_seed(config.seed)
        cohorts = build_cohorts(config)
        self._objective = build_objective(config, cohorts)
        self._waits_in_forward = config.zero_stage == 3 or (
            cohorts is not None and cohorts.neighbours is not None
        )
        networks = build_networks(
            config,
            self._objective,
            Backbone(config.backbone, self._stats, self._tokenizer_file),
            fresh=resume_from is None,
        )
        self._micro = config.batch.micro_for(world_size)
        self._writer = CheckpointWriter(
            folder, GroupRanks(), config.checkpoint, checkpoint_bytes(networks), alive
        )
        self._engine = Engine(
            networks.online,
            build_optimizer(networks.online, config.optim, self._tower_scales()),
            self._settings(world_size),
        )
        self.target = self._build_target(networks.target)

        self.progress = Progress()
        if resume_from is not None:
            self._restore(resume_from)
        self._journal = (
            Journal(folder, config.total_steps, self.progress.step) if self.rank == 0 else None
        )
        self.health = self._build_health()
        self._loader = self._build_loader()
        self._energy = self._build_energy()

    @property
    def rank(self) -> int:
        """This process's rank."""
        return self._engine.rank

    @property
    def online(self) -> nn.Module:
        """The network that gradients train."""
        return self._engine.module

    def run(self, on_evaluate: Evaluate = lambda backbone: {}) -> Run:
        """What `trainer.train` takes.

        Args:
            on_evaluate: Asked on the first rank every ``evaluate_every_steps``, with the target's
                float32 weights; the other ranks wait for it at their next exchange.
        """
        config = self._config
        self._on_evaluate = on_evaluate
        step = TrainStep(
            self._engine,
            self.target,
            self._objective,
            self._augment(),
            StepSettings(
                total_steps=config.total_steps,
                micro_samples=self._micro,
                optim=config.optim,
                waits_in_forward=self._waits_in_forward,
            ),
        )
        self._pace = Pace(
            self._engine.world_size, logger.warning if self.rank == 0 else lambda sentence: None
        )
        return Run(
            total_steps=config.total_steps,
            global_samples=config.batch.global_samples,
            checkpoint_every_steps=config.checkpoint_every_steps,
            log_every_steps=config.log_every_steps,
            max_skipped_in_a_row=config.max_skipped_in_a_row,
            batches=lambda consumed: step.timing(self._loader.batches(consumed)),
            step=self._pace.watch(self.health.watch(step)),
            save=self.save,
            saved=self.saved,
            agree=self._engine.agree,
            sink=self._journal or Sinks([]),
            measure=self._measure,
        )

    def save(self, progress: Progress) -> None:
        """Begin a checkpoint. Collective."""
        masters = self.target.masters_on_first()
        parts: list[Part] = [self._engine.snapshot, self.target.snapshot]
        if masters is not None:
            parts.append(lambda: self._snapshot_shared(masters))
        self._writer.save(progress, parts)

    def saved(self, wait: bool) -> list[Path]:
        """Checkpoints that have become whole since this was last asked. Collective.

        Args:
            wait: For what is still being written.
        """
        folders = self._writer.wait() if wait else self._writer.poll()
        keep = self._config.keep_checkpoints
        # A run that is sick keeps what is older: its last healthy checkpoint is among it.
        if folders and keep is not None and self.health.verdict.fit_to_publish:
            self._writer.retire(keep)
        return folders

    def close(self) -> None:
        """Stop the loader's workers, close the metric files, end the writing of checkpoints."""
        self._writer.close()
        self._loader.close()
        self._energy.close()
        if self._journal is not None:
            self._journal.close()

    def _snapshot_shared(self, masters: Mapping[str, Tensor]) -> Write:
        """What one rank writes for all: the target's backbone, the configuration."""
        backbone = self.target.network.backbone
        assert isinstance(backbone, Backbone)
        with self.target.float32_weights(masters):
            write_backbone = backbone.snapshot()
        verdict = self.health.verdict
        text = json.dumps(config_to_json(self._config), indent=2)

        def write(folder: Path) -> None:
            write_backbone(folder / "backbone")
            (folder / "config.json").write_text(text + "\n")
            save_verdict(verdict, folder)

        return write

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._engine.load(checkpoint.folder)
        self.target.load(checkpoint.folder)
        self.progress = checkpoint.progress

    def _tower_scales(self) -> dict[str, float]:
        towers = self._config.backbone.towers
        return {name: tower.learning_rate_scale for name, tower in towers.items()}

    def _settings(self, world_size: int) -> EngineSettings:
        share = self._config.batch.global_samples // world_size
        return EngineSettings(
            micro_samples=self._micro,
            accumulation_steps=share // self._micro,
            max_gradient_norm=self._config.optim.max_gradient_norm,
            precision=self._config.precision,
            zero_stage=self._config.zero_stage,
        )

    @property
    def _working_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self._config.precision == "bf16" else torch.float32

    def _build_target(self, network: nn.Module) -> Target:
        config = self._config
        return Target(
            network.to(self._engine.device),
            config.ema.tau_for(
                self.source.num_samples, config.batch.global_samples, config.total_steps
            ),
            config.total_steps,
            working_dtype=self._working_dtype,
            shared_out=None if self._engine.replicated else self._engine.master_fragments(),
        )

    def _build_loader(self) -> TripleLoader:
        config = self._config
        rate = self._stats.log_mel.sample_rate_hz
        return TripleLoader(
            self.source,
            Decoder(
                self._tokenizer_file,
                DecodeConfig(sample_rate_hz=rate, alternatives=True),
            ),
            TrainCrops.from_configs(
                config.views, config.backbone, self._tokenizer_file, rate, config.seed
            ),
            Slice(
                global_batch=config.batch.global_samples,
                rank=self.rank,
                world_size=self._engine.world_size,
                micro_batch=self._micro,
            ),
            config.data.loader,
            self._folder / "data" / f"substitutions-rank-{self.rank:05d}.jsonl",
        )

    def _augment(self) -> Augment:
        log_mel = LogMel(self._stats.log_mel).to(self._engine.device)
        return Augment(
            self._config.views,
            log_mel,
            self._config.seed,
            dtype=self._working_dtype,
            compiled=self._config.compile == "all",
        )

    def _measure(self, progress: Progress, report: StepReport) -> dict[str, float]:
        """Metrics of a logged step."""
        return {
            "samples": float(progress.samples_consumed),
            "gradient/passed_over": float(
                progress.samples_consumed // self._config.batch.global_samples - progress.step
            ),
            "speed/slowest_rank": self._pace.slowest,
            "speed/samples_per_second": self._config.batch.global_samples / report.seconds,
            **{f"data/{name}": value for name, value in self._loader.health().values().items()},
            **report.values(),
            **self.health.values(progress.step),
            **self._energy.values(progress.step),
            **self._evaluate(progress.step, report),
        }

    def _evaluate(self, step: int, report: StepReport) -> Mapping[str, float]:
        """Scores of the target's features, and a table of embeddings to look at. Collective."""
        every = self._config.evaluate_every_steps
        if every is None or step % every:
            return {}
        masters = self.target.masters_on_first()
        if self._journal is None or masters is None:
            return {}
        self._journal.write_embeddings(step, report.embeddings())
        backbone = self.target.network.backbone
        assert isinstance(backbone, Backbone)
        was_training = backbone.training
        # The run must be the same whether it is evaluated or not.
        with self.target.float32_weights(masters), torch.random.fork_rng():
            try:
                return self._on_evaluate(backbone.eval())
            finally:
                backbone.train(was_training)

    def _build_health(self) -> HealthMonitor:
        config = self._config
        return HealthMonitor(
            config.health,
            WatchedRun(
                online_weights=self._engine.master_parameters,
                target_weights=lambda: self.target.full_masters().items(),
                gradients=GradientProbe(self.online, self.target.network, self._objective),
                sum_over_ranks=self._engine.sum_over_ranks,
                total_steps=config.total_steps,
                record=self._journal.write_health if self._journal else lambda step, record: None,
            ),
            config.health.every_steps or config.log_every_steps,
            load_looks(self._folder / HEALTH_FILE, self.progress.step, config.total_steps),
        )

    def _build_energy(self) -> EnergyMeter:
        return EnergyMeter(
            counters_of(self._engine.device),
            MeteredRun(
                rank=self.rank,
                gather=GroupRanks().gather,
                sum_over_ranks=self._engine.sum_over_ranks,
                record=self._journal.write_energy if self._journal else lambda step, record: None,
            ),
            self.progress.step,
        )
