"""PretrainConfig -> Run: the one place where objects are wired."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from data_sharding.decode import DecodeConfig, Decoder
from data_sharding.logmel import LogMel
from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from data_sharding.stream.loader import Slice, TripleLoader
from data_sharding.stream.source import open_stream
from pretrain.checkpoint import Checkpoint, Progress, remove_old, write_checkpoint
from pretrain.config import PretrainConfig, config_to_json
from pretrain.ema import Target
from pretrain.engine import Engine, EngineSettings
from pretrain.health import collapsed
from pretrain.metrics import JsonlSink, Sink, Sinks, TensorBoardSink, TerminalSink
from pretrain.models import Backbone
from pretrain.objectives import Byol, Objective
from pretrain.optim import build_optimizer
from pretrain.step import StepReport, StepSettings, TrainStep
from pretrain.trainer import Run
from pretrain.views import Augment, TrainCrops

TARGET_FILE = "target.safetensors"


def build_objective(config: PretrainConfig) -> Objective:
    """What ``config.objective`` names."""
    objectives: dict[str, Callable[[], Objective]] = {"byol": lambda: Byol(config.byol)}
    return objectives[config.objective]()


class Training:
    """The wired objects of one rank, and the way to save and restore them.

    Needs a process group (`engine.join_process_group`).

    Args:
        config: The run's configuration.
        folder: The run folder, shared by the ranks.
        resume_from: A checkpoint of this run on the same number of ranks, or None.

    Raises:
        ValueError: the shards, the batch or the checkpoint do not fit.
    """

    def __init__(
        self, config: PretrainConfig, folder: Path, resume_from: Checkpoint | None
    ) -> None:
        self._config = config
        self._folder = folder
        self.source = open_stream(config.data.shards, config.data.split)
        stats_folder = config.data.stats_folder
        self._stats = CorpusStats.load(stats_folder)
        self._tokenizer_file = stats_folder / TOKENIZER_FILE

        torch.manual_seed(config.seed)
        backbone = Backbone(config.backbone, self._stats, self._tokenizer_file)
        self._objective = build_objective(config)
        networks = self._objective.networks(backbone)
        world_size = torch.distributed.get_world_size()
        self._micro = config.batch.micro_for(world_size)
        self._engine = Engine(
            networks.online,
            build_optimizer(networks.online, config.optim),
            self._settings(world_size),
        )
        self.target = Target(
            networks.target.to(self._engine.device),
            config.ema,
            config.total_steps,
            working_dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32,
        )

        self.progress = Progress()
        if resume_from is not None:
            self._restore(resume_from)
        self._sink = self._build_sink()
        self._loader = self._build_loader()

    @property
    def rank(self) -> int:
        """This process's rank."""
        return self._engine.rank

    def run(self) -> Run:
        """What `trainer.train` takes."""
        config = self._config
        step = TrainStep(
            self._engine,
            self.target,
            self._objective,
            self._augment(),
            StepSettings(
                total_steps=config.total_steps,
                micro_samples=self._micro,
                optim=config.optim,
            ),
        )
        return Run(
            total_steps=config.total_steps,
            global_samples=config.batch.global_samples,
            checkpoint_every_steps=config.checkpoint_every_steps,
            log_every_steps=config.log_every_steps,
            batches=self._loader.batches,
            step=step,
            save=self.save,
            agree=self._engine.agree,
            sink=self._sink,
            measure=self._measure,
        )

    def save(self, progress: Progress) -> Path:
        """Write a checkpoint. Collective."""
        parts: list[Callable[[Path], None]] = [self._engine.save]
        if self.rank == 0:
            parts.append(self._save_shared)
        folder = write_checkpoint(self._folder, progress, parts, self._engine)
        if self.rank == 0 and self._config.keep_checkpoints is not None:
            remove_old(self._folder, self._config.keep_checkpoints)
        return folder

    def close(self) -> None:
        """Stop the loader's workers and close the metric files."""
        self._loader.close()
        self._sink.close()

    def _save_shared(self, folder: Path) -> None:
        """What one rank writes for all: target, its backbone, the resolved configuration."""
        self.target.save(folder / TARGET_FILE)
        backbone = self.target.network.backbone
        assert isinstance(backbone, Backbone)
        with self.target.float32_weights():
            backbone.save(folder / "backbone")
        text = json.dumps(config_to_json(self._config), indent=2)
        (folder / "config.json").write_text(text + "\n")

    def _restore(self, checkpoint: Checkpoint) -> None:
        if checkpoint.world_size != self._engine.world_size:
            raise ValueError(
                f"{checkpoint.folder} was written by {checkpoint.world_size} ranks and this run "
                f"has {self._engine.world_size}; resume on the same number"
            )
        self._engine.load(checkpoint.folder)
        self.target.load(checkpoint.folder / TARGET_FILE)
        self.progress = checkpoint.progress

    def _settings(self, world_size: int) -> EngineSettings:
        share = self._config.batch.global_samples // world_size
        return EngineSettings(
            micro_samples=self._micro,
            accumulation_steps=share // self._micro,
            max_gradient_norm=self._config.optim.max_gradient_norm,
            precision=self._config.precision,
            zero_stage=self._config.zero_stage,
        )

    def _build_loader(self) -> TripleLoader:
        config = self._config
        sample_rate_hz = self._stats.log_mel.sample_rate_hz
        return TripleLoader(
            self.source,
            Decoder(self._tokenizer_file, DecodeConfig(sample_rate_hz=sample_rate_hz)),
            TrainCrops.from_configs(config.views, config.backbone, sample_rate_hz, config.seed),
            Slice(
                global_batch=config.batch.global_samples,
                rank=self.rank,
                world_size=self._engine.world_size,
            ),
            config.data.loader,
            self._folder / "data" / f"substitutions-rank-{self.rank:05d}.jsonl",
        )

    def _augment(self) -> Augment:
        return Augment(self._config.views, LogMel(self._stats.log_mel), self._config.seed)

    def _build_sink(self) -> Sink:
        if self.rank != 0:
            return Sinks([])
        step = self.progress.step
        return Sinks(
            [
                JsonlSink(self._folder / "metrics.jsonl", step),
                TensorBoardSink(self._folder / "tensorboard", step),
                TerminalSink(self._config.total_steps, step),
            ]
        )

    def _measure(self, progress: Progress, report: StepReport) -> dict[str, float]:
        """Metrics of a logged step; a collapse is said at once."""
        health = report.health()
        if self.rank == 0 and (names := collapsed(health)):
            print(f"step {progress.step}: collapse: {', '.join(names)}", flush=True)
        return {
            "samples": float(progress.samples_consumed),
            "speed/samples_per_second": self._config.batch.global_samples / report.seconds,
            **{f"data/{name}": value for name, value in self._loader.health().values().items()},
            **report.values(),
            **health,
        }
