"""How long a step takes, and the run: by its arithmetic, or as it was measured."""

import contextlib
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.plan.batch import accumulation_steps
from launch.plan.chapter import Chapter, duration
from launch.plan.passes import Passes
from launch.run_config import RunConfig
from pretrain.checkpoint import COMPLETE

PEAK_TFLOPS = {"bf16": 989.0, "fp32": 67.0}
"""Of an H100 or H200 without sparsity, by the data sheet; float32 outside of its tensor cores."""

MEASURED_LINES = 20
"""Newest lines of metrics that are looked at."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds of an optimizer step, and where they are from."""

    step_seconds: float
    source: str


def measured_pace(run: Path, global_samples: int) -> Pace | None:
    """The pace that a run's own metrics tell, waiting for data included; None without any."""
    lines = _newest_lines(run / "metrics.jsonl")
    rates = [
        line["speed/samples_per_second"] * (1.0 - line.get("data/wait_share", 0.0))
        for line in lines
        if line.get("speed/samples_per_second")
    ]
    if not rates:
        return None
    return Pace(
        step_seconds=global_samples / statistics.median(rates),
        source=f"measured, the median of the last {len(rates)} lines of {run / 'metrics.jsonl'}",
    )


def _newest_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[-MEASURED_LINES:]
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):  # cut short by a kill, or still being written
            found.append(json.loads(line))
    return found


def assumed_pace(
    config: RunConfig, passes: Passes, peak_tflops: float, share: float, view_seconds: float | None
) -> Pace:
    """The pace of GPUs that do ``share`` of their peak, and wait while a rank draws its views."""
    flops = passes.flops * accumulation_steps(config)
    arithmetic = flops / (peak_tflops * 1e12 * share)
    told = (
        f"{duration(arithmetic)} of arithmetic, assumed {share:.0%} (--utilisation) of "
        f"{peak_tflops:g} TFLOP/s (--peak-tflops)"
    )
    if view_seconds is None:
        return Pace(step_seconds=arithmetic, source=told)
    views = view_seconds * config.pretrain.batch.global_samples / config.world_size
    return Pace(
        step_seconds=arithmetic + views,
        source=f"{told}, and {duration(views)} for the random numbers of the views, which a rank "
        f"draws before each step, at the {view_seconds * 1e3:.3g} ms a sample that one core of "
        "this machine takes",
    )


def speed_chapter(config: RunConfig, passes: Passes | None, pace: Pace | None) -> Chapter:
    """Steps, arithmetic, time, and what the loader must deliver.

    Args:
        config: The run.
        passes: Of one micro-batch, where they could be told.
        pace: Of a step, where it is known.
    """
    chapter = Chapter("Steps and time")
    pretrain = config.pretrain
    done = _steps_done(config.run)
    left = max(0, pretrain.total_steps - done)
    at = f"{done:,} of {pretrain.total_steps:,} done, {left:,} to go" if done else f"{left:,}"
    chapter.tell("steps", at)
    if passes is not None:
        _tell_arithmetic(chapter, config, passes)
    if pace is None:
        chapter.tell("time", "not told for ranks without a GPU: run some steps, then plan again")
        return chapter
    _tell_pace(chapter, config, pace)
    seconds = left * pace.step_seconds
    accelerators = f", {seconds / 3600 * config.world_size:,.0f} rank-hours"
    chapter.tell("time to the end", f"{duration(seconds)}{accelerators}, checkpoints not counted")
    if config.cluster == "slurm":
        _tell_jobs(chapter, config, seconds, pace)
    return chapter


def _tell_arithmetic(chapter: Chapter, config: RunConfig, passes: Passes) -> None:
    samples = config.pretrain.batch.global_samples / config.world_size
    flops = passes.flops * accumulation_steps(config)
    shares = {
        "target": passes.target_flops,
        "online": passes.online_flops,
        "backward": passes.backward_flops,
    }
    parts = ", ".join(f"{part} {own / passes.flops:.0%}" for part, own in shares.items())
    chapter.tell(
        "arithmetic",
        f"{flops / samples / 1e9:,.3g} GFLOP a sample, both views ({parts}; a multiply-add is "
        f"2), {flops / 1e12:,.3g} TFLOP a step and rank",
    )


def _tell_pace(chapter: Chapter, config: RunConfig, pace: Pace) -> None:
    """A step, and what its loaders must deliver."""
    rate = config.pretrain.batch.global_samples / pace.step_seconds
    own, workers = rate / config.world_size, config.pretrain.data.loader.num_workers
    chapter.tell("step", f"{duration(pace.step_seconds)}, {rate:,.0f} samples/s: {pace.source}")
    chapter.tell(
        "loader",
        f"has to deliver {own:,.0f} samples/s to each rank"
        + (f", {own / workers:,.0f} from each of {workers} workers" if workers else "")
        + "; `triptych stream` measures it",
    )


def _steps_done(run: Path) -> int:
    """Of the newest checkpoint, by its name: files are hashed by a start, and not here."""
    markers = (run / "checkpoints").glob(f"step-????????/{COMPLETE}")
    return max((int(marker.parent.name.removeprefix("step-")) for marker in markers), default=0)


def _tell_jobs(chapter: Chapter, config: RunConfig, seconds: float, pace: Pace) -> None:
    """How often the job would be queued again at its time limit."""
    slurm = config.slurm
    usable = 60 * slurm.walltime_minutes - slurm.save_seconds
    jobs = max(1, math.ceil(seconds / usable))
    chapter.tell(
        "jobs",
        f"{jobs} of {duration(60 * slurm.walltime_minutes)}, {jobs - 1} requeues of at most "
        f"{slurm.max_requeues}; queueing and starting not counted",
    )
    if pace.step_seconds > usable:
        chapter.find(
            f"one step takes {duration(pace.step_seconds)}, and a job has {duration(usable)} "
            "before it is told to save: set a larger slurm.walltime_minutes"
        )
    if jobs - 1 > slurm.max_requeues:
        chapter.find(
            f"the run needs {jobs - 1} requeues and slurm.max_requeues is {slurm.max_requeues}: "
            f"set it to {jobs - 1} or more, or a larger slurm.walltime_minutes"
        )
