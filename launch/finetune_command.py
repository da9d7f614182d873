"""`triptych finetune`: train a backbone further, with a head, on a labelled task."""

import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from eval.finetune import Start, TaskConfig, fine_tune_task, format_report, report_file, start_of
from eval.finetune.report import REPORTS_FOLDER
from eval.pages.run_pages import renew_pages_or_warn
from eval.release.open_backbone import open_backbone
from eval.tasks import load_task
from pretrain.checkpoint import Checkpoint, open_checkpoint, take_lease
from pretrain.models.sums import SUMS_FILE, refuse_changed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FineTuneCommand:
    """Fine-tune a backbone with a linear head on a labelled task, over several group-wise splits.

    Prints mean and deviation over the splits beside the majority class, precision, recall and F1
    of each class, and what a fusion is worth with one modality masked. The report goes to
    RUN/finetunes/CHECKPOINT/TASK.json; the same question again is answered from it, and one that
    was ended midway goes on after the representations that had finished.
    """

    backbone: tyro.conf.Positional[Path]
    """A checkpoint, a run for its newest one, or a published backbone (with --out)."""

    task: tyro.conf.Positional[str]
    """`sample-topics`, or a task folder made by `triptych task`."""

    out: Path | None = None
    """File of the report; needed for a published backbone."""

    keep: Path | None = None
    """Folder to create for the model of the first split on `fused`, for `triptych predict`."""

    config: Annotated[TaskConfig, tyro.conf.arg(name="")] = field(default_factory=TaskConfig)


def finetune_command(arguments: list[str]) -> int:
    """`triptych finetune`."""
    command = tyro.cli(FineTuneCommand, args=arguments, prog="triptych finetune")
    task = load_task(command.task)
    if (command.backbone / SUMS_FILE).is_file():
        start, out = _published(command.backbone), _out(command)
        report = fine_tune_task(start, task, command.config, out, command.keep)
    else:
        checkpoint = open_checkpoint(command.backbone)
        out = command.out or report_file(checkpoint, task)
        with _leased(checkpoint):
            report = fine_tune_task(start_of(checkpoint), task, command.config, out, command.keep)
        if command.out is None:
            renew_pages_or_warn(checkpoint.run)
    print(format_report(report), end="")
    return 0


@contextmanager
def _leased(checkpoint: Checkpoint) -> Iterator[None]:
    """Keep a checkpoint, which a run in training might remove, or warn that it cannot be kept.

    No file is promised: a report of these weights may be there, of another question. A kill leaves
    the lease, which ends with its age.

    Raises:
        CheckpointError, OSError: The checkpoint went before the lease was there.
    """
    holder = f"finetune-{secrets.token_hex(4)}"
    lease: Path | None = None
    try:
        try:
            lease = take_lease(checkpoint, holder, checkpoint.run / REPORTS_FOLDER / holder)
        except OSError as error:
            logger.warning("%s may be removed by its run meanwhile: %s", checkpoint.folder, error)
        open_checkpoint(checkpoint.folder, verify=False)
        yield
    finally:
        if lease is not None:
            lease.unlink(missing_ok=True)


def _published(path: Path) -> Start:
    """A published backbone, whole by its sums."""
    found = open_backbone(path)
    refuse_changed(found.folder)
    return Start(
        folder=found.folder, identity={"name": path.resolve().name, "digest": found.digest}
    )


def _out(command: FineTuneCommand) -> Path:
    if command.out is None:
        raise ValueError(
            f"{command.backbone} is a published backbone, in no run: say with --out where the "
            "report goes"
        )
    return command.out
