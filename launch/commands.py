"""What each sub-command does: options from tyro, one call into the package that does it."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from data_sharding.stats import StatsConfig, compute_stats, stats_folder
from eval.probes.probe_config import ProbeConfig
from eval.tasks import load_task
from launch.aside import Where, run_aside
from launch.cluster import ClusterConfig
from launch.errors import user_errors
from launch.local import run_local
from launch.preemption import EXIT_CODES, StopRequest, exit_code_kept
from launch.probes.jobs import submit_probe
from launch.recipes import list_recipes
from launch.run_config import RunConfig
from launch.run_options import default_run
from launch.start import start_run, submit_run
from pretrain.checkpoint import open_checkpoint


@dataclass(frozen=True, kw_only=True)
class StatsCommand:
    """Train the vocabulary and measure image and mel statistics of a train split."""

    shards: tyro.conf.Positional[str]
    """A shard set or a blend: a folder or a URL."""

    out: Path | None = None
    """Folder to write to; if not given, `stats` inside a local set."""

    config: Annotated[StatsConfig, tyro.conf.arg(name="")] = field(default_factory=StatsConfig)


@dataclass(frozen=True, kw_only=True)
class PretrainCommand:
    """Pretrain text, image and audio encoders on a shard set, without labels."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]

    resume: bool = False
    """Continue the run in the folder from its newest whole checkpoint, at the next sample."""

    fresh: bool = False
    """Begin at step 0 again in a run without a whole checkpoint; broken ones are put aside."""


@dataclass(frozen=True, kw_only=True)
class ProbeCommand:
    """Score a frozen checkpoint on a labelled task, beside its floors."""

    checkpoint: tyro.conf.Positional[Path]
    """A checkpoint folder, or a run folder for its newest one."""

    task: tyro.conf.Positional[str]
    """`sample-topics`, or a task folder made by `triptych task`."""

    cluster: Where = "inline"
    """Here, in the background, or as a Slurm job, whose probe has the usual options."""

    slurm: ClusterConfig = field(default_factory=ClusterConfig)
    """What a Slurm job asks for."""

    config: Annotated[ProbeConfig, tyro.conf.arg(name="")] = field(default_factory=ProbeConfig)


@dataclass(frozen=True, kw_only=True)
class ReportCommand:
    """Draw a run as one self-contained page: scores beside floors, retrieval, losses, health."""

    run: tyro.conf.Positional[Path]
    """Run folder."""


def stats_command(arguments: list[str]) -> int:
    """`triptych stats`."""
    command = tyro.cli(StatsCommand, args=arguments, prog="triptych stats")
    stats = compute_stats(command.shards, command.config, command.out)
    print(
        f"{stats_folder(command.shards, command.out)}: {stats.vocab_size} word pieces, "
        f"{stats.num_samples} samples of the train split"
    )
    return 0


def pretrain_command(arguments: list[str]) -> int:
    """`triptych pretrain`."""
    default, rest = default_run(arguments, "triptych pretrain")
    command = tyro.cli(
        PretrainCommand,
        args=rest,
        prog="triptych pretrain RECIPE",
        default=PretrainCommand(config=default),
        description=_pretrain_description(),
    )
    config = command.config.with_absolute_paths()
    # torchrun and srun start every rank with this very command.
    if config.cluster == "local" and "RANK" in os.environ:
        config = replace(config, cluster="inline")
    if config.cluster == "inline":
        return _pretrain_inline(config, command)
    if config.cluster == "slurm":
        job = submit_run(config, command.resume, command.fresh)
        print(f"job {job.job_id} pretrains {config.run}; logs: {config.run / 'logs'}")
        return 0
    start_run(config, command.resume, command.fresh)
    return run_local(config.run, config.ranks)


def _pretrain_description() -> str:
    lines = [f"{recipe.name}: {recipe.summary}" for recipe in list_recipes()]
    codes = "\n".join(f"{code}: {meaning}" for code, meaning in EXIT_CODES.items())
    return "\n\n".join([PretrainCommand.__doc__ or "", "Recipes:", *lines, "Exit codes:", codes])


def _pretrain_inline(config: RunConfig, command: PretrainCommand) -> int:
    """One rank among those that torchrun or Slurm started; the first prepares the run."""
    from launch.rank import work

    def prepare() -> None:
        start_run(config, command.resume, command.fresh)

    with exit_code_kept(), user_errors():
        sys.exit(work(config, StopRequest(), prepare))


def probe_command(arguments: list[str]) -> int:
    """`triptych probe`."""
    command = tyro.cli(ProbeCommand, args=arguments, prog="triptych probe")
    if command.cluster == "slurm":
        _refuse_probe_options(command.config)
    checkpoint = open_checkpoint(command.checkpoint)
    if command.cluster == "slurm":
        job = submit_probe(checkpoint, command.task, command.slurm)
        log = checkpoint.run.absolute() / "logs" / f"{job.job_id}_0_0_log.out" if job else ""
        print(f"job {job.job_id}; log: {log}" if job else "queued or done already")
        return 0
    if command.cluster == "local":
        print(run_aside("local", "probe", arguments, checkpoint.run, command.slurm))
        return 0
    from eval.pages.run_pages import renew_pages_or_warn
    from eval.probes.probe import probe
    from eval.probes.probe_report import format_table

    print(format_table(probe(checkpoint, load_task(command.task), command.config)))
    renew_pages_or_warn(checkpoint.run)
    return 0


def _refuse_probe_options(config: ProbeConfig) -> None:
    """A cluster's probes are one array with the usual options, whoever asks for them.

    Raises:
        ValueError: Other options were given; names them.
    """
    usual = ProbeConfig()
    changed = [
        "--" + entry.name.replace("_", "-")
        for entry in fields(ProbeConfig)
        if getattr(config, entry.name) != getattr(usual, entry.name)
    ]
    if changed:
        raise ValueError(
            f"triptych probe --cluster slurm: a cluster's probes have the usual options, and "
            f"{', '.join(changed)} would be lost; drop them, or probe with --cluster inline or "
            "local, on a node that you hold if need be"
        )


def report_command(arguments: list[str]) -> int:
    """`triptych report`."""
    from eval.pages.report import write_report

    command = tyro.cli(ReportCommand, args=arguments, prog="triptych report")
    print(write_report(command.run))
    return 0


def demo_command(arguments: list[str]) -> int:
    """`triptych demo`."""
    from launch.demo import DemoConfig, run_demo

    return run_demo(tyro.cli(DemoConfig, args=arguments, prog="triptych demo"))


def _late(module: str, name: str) -> Callable[[list[str]], int]:
    """A command of a module of its own, imported when it is run: some take seconds to import."""

    def run(arguments: list[str]) -> int:
        command: Callable[[list[str]], int] = getattr(import_module(f"launch.{module}"), name)
        return command(arguments)

    return run


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo_command,
    "shard": _late("shard_command", "shard_command"),
    "index": _late("shard_tools", "index_command"),
    "verify": _late("shard_tools", "verify_command"),
    "inspect": _late("shard_tools", "inspect_command"),
    "export-index": _late("shard_tools", "export_index_command"),
    "stats": stats_command,
    "blend": _late("stream_commands", "blend_command"),
    "stream": _late("stream_commands", "stream_command"),
    "views": _late("views_command", "views_command"),
    "plan": _late("plan_command", "plan_command"),
    "pretrain": pretrain_command,
    "task": _late("task_commands", "task_command"),
    "probe": probe_command,
    "finetune": _late("finetune_command", "finetune_command"),
    "retrieve": _late("retrieve_command", "retrieve_command"),
    "publish": _late("publish_command", "publish_command"),
    "verify-backbone": _late("verify_backbone_command", "verify_backbone_command"),
    "embed": _late("embed_command", "embed_command"),
    "fit-head": _late("predict_command", "fit_head_command"),
    "predict": _late("predict_command", "predict_command"),
    "report": report_command,
    "compare": _late("compare_command", "compare_command"),
    "status": _late("status_command", "status_command"),
    "logs": _late("job_commands", "logs_command"),
    "cancel": _late("job_commands", "cancel_command"),
    "watch": _late("watch_command", "watch_command"),
}
