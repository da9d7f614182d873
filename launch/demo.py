"""`triptych demo`: the whole way on the bundled sample corpus, then a table and a page."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats
from eval.importers.sample_topics import CORPUS, sample_topics_card
from eval.pages.report import write_report
from eval.probes.probe import ProbeConfig, probe
from eval.probes.probe_report import ProbeReport, format_table
from eval.release.publish import PublishConfig, publish
from eval.splits import SplitConfig
from eval.tasks import Task, save_card
from launch.local import run_local
from launch.recipes.demo import demo
from launch.run_config import RunConfig
from launch.start import start_run
from pretrain.checkpoint import open_checkpoint

MARKER = ".triptych-demo"
"""Says that a folder was made by the demo and may be made anew."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Shard, pretrain, probe, publish and report on the bundled sample corpus."""

    out: Path = Path("demo-run")
    """Folder for everything the demo makes; an earlier demo's folder is replaced."""

    ranks: int = 2
    """DeepSpeed ranks on this machine."""

    steps: int | None = None
    """Optimizer steps; None is what the recipe says. Fewer are quicker and prove less."""

    splits: int = 20
    """Splits that the last checkpoint is probed on; fewer are quicker, and under ten give no
    verdict."""

    def __post_init__(self) -> None:
        if self.splits < 1:
            raise ValueError(f"splits must be positive, got {self.splits}")


def run_demo(config: DemoConfig) -> int:
    """Do all of it in order; returns the exit code.

    Raises:
        ValueError: ``out`` holds something that the demo did not make.
    """
    began = time.monotonic()
    _make_folder(config.out)
    run = _run_config(config)
    shards = config.out / "shards"
    with _chapter("shard: raw files -> WebDataset shards with index and manifest"):
        licence = ShardingConfig(licence=sample_topics_card().licence)
        print(shard_corpus(CORPUS, shards, licence).summary())
    with _chapter("stats: vocabulary, image and mel statistics of the train split"):
        stats = compute_stats(shards, StatsConfig())
        print(f"{stats.vocab_size} word pieces from {stats.num_samples} samples")
    with _chapter(f"pretrain: multimodal BYOL, {config.ranks} DeepSpeed ranks"):
        start_run(run, resume=False)
        if code := run_local(run.run, run.ranks):
            return code
    with _chapter("probe: frozen features of two checkpoints, beside their floors"):
        report = _probe_checkpoints(run.run, save_card(shards, sample_topics_card()), config.splits)
    with _chapter("publish: safetensors, tokenizer, statistics, model card"):
        licence = PublishConfig(licence="gpl-2.0", name="triptych-demo")
        print(publish(open_checkpoint(run.run), config.out / "backbone", licence))
    page = write_report(run.run)
    print(f"\n{format_table(report)}\n\ndone in {time.monotonic() - began:.0f} s; report: {page}")
    return 0


def _make_folder(out: Path) -> None:
    if out.exists() and any(out.iterdir()):
        if not (out / MARKER).exists():
            raise ValueError(f"{out} is not empty and no demo made it; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def _run_config(config: DemoConfig) -> RunConfig:
    recipe = demo()
    pretrain = recipe.pretrain
    data = replace(pretrain.data, shards=str(config.out / "shards"))
    steps = config.steps or pretrain.total_steps
    pretrain = replace(
        pretrain, data=data, total_steps=steps, checkpoint_every_steps=max(1, steps // 2)
    )
    return replace(recipe, run=config.out / "run", pretrain=pretrain, ranks=config.ranks)


def _probe_checkpoints(run: Path, task: Task, splits: int) -> ProbeReport:
    """Probe every checkpoint alike, oldest first; returns the newest one's report."""
    config = ProbeConfig(splits=SplitConfig(num_splits=splits))
    folders = sorted((run / "checkpoints").glob("step-????????"))
    return [probe(open_checkpoint(folder), task, config) for folder in folders][-1]


@contextmanager
def _chapter(title: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"\n== {title}", flush=True)
    yield
    print(f"   {time.monotonic() - began:.0f} s", flush=True)
