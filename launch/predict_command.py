"""`triptych fit-head` and `triptych predict`: from a labelled task to labels of unseen samples."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from data_sharding.durable import writing_durably
from eval.probes.contents import Copies
from eval.probes.linear_probe import LinearProbeConfig
from eval.release.embed import ReadingConfig, Tally
from eval.release.head import fit_head
from eval.release.open_backbone import open_backbone
from eval.release.predict import predict
from eval.tasks import load_task
from pretrain.disk_room import room_named
from pretrain.models.sums import refuse_changed


@dataclass(frozen=True, kw_only=True)
class FitHeadCommand:
    """Fit a linear classifier on the fused features of a backbone, for `triptych predict`."""

    task: tyro.conf.Positional[str]
    """`sample-topics`, or a task folder made by `triptych task`."""

    backbone: Path
    """A published backbone, a checkpoint, or a run for its newest checkpoint."""

    out: Path
    """Folder to create: the classifier and its backbone, safetensors and JSON alone."""

    copies: Copies = "refuse"
    """Samples whose content lies on two sides of the split: refuse the task, or leave the repeated
    ones out of training."""

    linear: LinearProbeConfig = field(default_factory=LinearProbeConfig)
    """The grid; the regularisation is chosen on validation."""


@dataclass(frozen=True, kw_only=True)
class PredictCommand:
    """Label unseen samples: a line of JSON each, with label, probability and modality weights.

    The weight of a modality is the share that an attention fusion gives it (0 to 1). Other
    fusions have no such share: there it is by how much the probability of the label falls when
    the modality is left out, and null where the sample has no other. `weights_are` says which.
    Inputs are those of `triptych embed`.
    """

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders, tables."""

    head: Path
    """What `triptych fit-head` wrote."""

    out: Path | None = None
    """File to write, ending in .jsonl; if not given, lines are printed as they come."""

    config: Annotated[ReadingConfig, tyro.conf.arg(name="")] = field(default_factory=ReadingConfig)


def fit_head_command(arguments: list[str]) -> int:
    """`triptych fit-head`."""
    command = tyro.cli(FitHeadCommand, args=arguments, prog="triptych fit-head")
    folder = open_backbone(command.backbone).folder
    refuse_changed(folder)
    task = load_task(command.task)
    tested = fit_head(folder, task, command.out, command.linear, command.copies)
    print(f"{command.out}: macro-F1 {100 * tested:.1f} % on the test part of one split")
    return 0


def predict_command(arguments: list[str]) -> int:
    """`triptych predict`."""
    command = tyro.cli(PredictCommand, args=arguments, prog="triptych predict")
    if command.out is not None:
        _refuse_output(command.out, command.config.overwrite)
    tally = Tally()
    records = predict(command.inputs, command.head, command.config, tally)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if command.out is None:
        sys.stdout.writelines(lines)
    else:
        with room_named(command.out), writing_durably(command.out) as file:
            file.writelines(line.encode() for line in lines)
    skipped = f", {tally.skipped} left out" if tally.skipped else ""
    print(f"{tally.embedded} samples labelled{skipped}", file=sys.stderr)
    return 0


def _refuse_output(out: Path, overwrite: bool) -> None:
    if out.suffix != ".jsonl":
        raise ValueError(f"{out}: labels are written as .jsonl, a line of JSON for each sample")
    if out.exists() and (out.is_dir() or not overwrite):
        raise ValueError(f"{out} exists already; choose another file, or --overwrite")
