"""`triptych finetune`: train a backbone further, with a head, on a labelled task."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from eval.finetune import Start, TaskConfig, fine_tune_task, format_report, report_file, start_of
from eval.pages.run_pages import renew_pages_or_warn
from eval.release.open_backbone import open_backbone
from eval.tasks import load_task
from pretrain.checkpoint import open_checkpoint
from pretrain.models.sums import SUMS_FILE, refuse_changed


@dataclass(frozen=True, kw_only=True)
class FineTuneCommand:
    """Fine-tune a backbone with a linear head on a labelled task, over several group-wise splits.

    Prints mean and deviation over the splits beside the majority class, precision, recall and F1
    of each class, and what a fusion is worth with one modality masked. The report goes to
    RUN/finetunes/CHECKPOINT/TASK.json; the same question again is answered from it.
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
        report = fine_tune_task(
            _published(command.backbone), task, command.config, _out(command), command.keep
        )
        print(format_report(report), end="")
        return 0
    checkpoint = open_checkpoint(command.backbone)
    out = command.out or report_file(checkpoint, task)
    report = fine_tune_task(start_of(checkpoint), task, command.config, out, command.keep)
    print(format_report(report), end="")
    if command.out is None:
        renew_pages_or_warn(checkpoint.run)
    return 0


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
