"""`triptych plan`: a run looked at before it is submitted."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from launch.plan.chapter import told
from launch.plan.run import PlanOptions, plan_run
from launch.run_config import RunConfig
from launch.run_options import default_run

EXIT_FINDINGS = 1


@dataclass(frozen=True, kw_only=True)
class PlanCommand:
    """Tell what `triptych pretrain` with the same options would do and need; nothing is started.

    Data, batch, schedules, memory by ZeRO stage, time, checkpoints, run folder, Slurm's limits.
    What would stop or spoil the run is listed at the end, and the exit code is then 1.
    """

    config: Annotated[RunConfig, tyro.conf.arg(name="")]

    resume: bool = False
    """As for `triptych pretrain`."""

    fresh: bool = False
    """As for `triptych pretrain`."""

    options: Annotated[PlanOptions, tyro.conf.arg(name="")] = field(default_factory=PlanOptions)


def plan_command(arguments: list[str]) -> int:
    """`triptych plan`."""
    default, rest = default_run(arguments, "triptych plan")
    command = tyro.cli(
        PlanCommand,
        args=rest,
        prog="triptych plan RECIPE",
        default=PlanCommand(config=default),
    )
    chapters = plan_run(
        command.config.with_absolute_paths(), command.options, command.resume, command.fresh
    )
    print(told(chapters))
    return EXIT_FINDINGS if any(chapter.findings for chapter in chapters) else 0
