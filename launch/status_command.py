"""`triptych status`: a run, seen from outside."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import tyro

from eval.probes.probe_report import score_line
from launch.job_record import JobRecord
from launch.run_status import RunStatus, read_status
from launch.slurm_queue import QueuedJob


@dataclass(frozen=True, kw_only=True)
class StatusCommand:
    """Where a run stands: queue, step, rate, time left, checkpoint, health, probes."""

    run: tyro.conf.Positional[Path]
    """Run folder."""


def status_command(arguments: list[str]) -> int:
    """`triptych status`."""
    command = tyro.cli(StatusCommand, args=arguments, prog="triptych status")
    for name, text in status_lines(read_status(command.run)):
        print(f"{name:<12}{text}".rstrip())
    return 0


def status_lines(status: RunStatus) -> list[tuple[str, str]]:
    """What there is to say, as pairs of a heading and a sentence; a heading may be empty."""
    share = 100 * status.step / status.total_steps
    lines = [
        ("run", str(status.run)),
        ("state", status.state),
        ("step", f"{status.step:,} of {status.total_steps:,} ({share:.0f} %)"),
    ]
    if status.samples_per_second is not None and not status.finished:
        quiet = _duration(status.quiet_seconds or 0.0)
        rate = f"{status.samples_per_second:,.1f} samples/s, last logged {quiet} ago"
        lines.append(("rate", rate))
        if status.seconds_left is not None:
            lines.append(("to go", f"{_duration(status.seconds_left)} at this rate"))
    saved = status.checkpoint
    lines.append(("checkpoint", str(saved.folder) if saved else "none yet"))
    lines += _health_lines(status)
    lines += _job_lines(status)
    lines += [("probe" if at == 0 else "", text) for at, text in enumerate(_probe_lines(status))]
    return lines


def _health_lines(status: RunStatus) -> list[tuple[str, str]]:
    if status.record.health is None:
        return []
    verdict = status.record.health.verdict
    found = [("", sentence) for sentence in verdict.sentences()]
    return [("health", f"{verdict.state} at step {verdict.step:,}"), *found]


def _job_lines(status: RunStatus) -> list[tuple[str, str]]:
    if status.queue_unknown is not None:
        return [("queue", status.queue_unknown)]
    by_id = {job.job_id: job for job in status.jobs}
    texts = [_job_line(job, by_id[job.whole_id]) for job in status.queued]
    return [("queue" if at == 0 else "", text) for at, text in enumerate(texts)]


def _job_line(job: QueuedJob, record: JobRecord) -> str:
    what = " ".join(part for part in (record.kind, record.checkpoint) if part)
    if job.state == "RUNNING":
        return f"job {job.job_id} {what}: runs on {job.nodes} for {job.elapsed}, {job.left} left"
    return f"job {job.job_id} {what}: {job.state.lower()} ({job.reason})"


def _probe_lines(status: RunStatus) -> list[str]:
    """The newest report of each task, and the best checkpoint of all."""
    if not status.record.probes:
        return []
    newest = {report.task["name"]: report for report in status.record.probes}
    return [*map(score_line, newest.values()), status.record.choice.sentence()]


def _duration(seconds: float) -> str:
    """As ``1 day, 2:03:04``."""
    return str(timedelta(seconds=round(seconds)))
