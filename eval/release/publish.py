"""Give a backbone out: safetensors, statistics, a card, checksums; whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging as transformers_logging

from eval.probes.probe_report import ProbeReport, report_from_json
from eval.records import read_json, write_json, write_text
from eval.release.card_facts import gather_facts
from eval.release.model_card import num_results, refuse_incomplete_card, render_card
from eval.release.privacy import refuse_private, strip_private
from eval.release.reference import check_in_fresh_process, write_reference
from eval.release.release_checks import (
    SUMS_FILE,
    received_files,
    refuse_non_finite,
    refuse_pickles,
    unlisted_files,
    verify_checksums,
    write_checksums,
)
from pretrain.checkpoint import Checkpoint, CheckpointError, open_checkpoint
from pretrain.disk_room import room_named
from pretrain.health.verdict import load_verdict
from pretrain.models import Backbone
from pretrain.models.export import export_transformers
from pretrain.models.onnx_export import export_onnx, refuse_without_onnx


@dataclass(frozen=True, kw_only=True)
class PublishConfig:
    """Under what name and terms a backbone is given out."""

    licence: str
    """Licence of the weights, as the Hugging Face Hub spells it: `apache-2.0`, `cc-by-4.0`. There
    is no default: whoever publishes must have the right to."""
    name: str = "triptych-backbone"
    """Name on the model card."""
    overwrite: bool = False
    """Replace another published backbone at the same place. Other folders are never replaced."""
    allow_unfit: bool = False
    """Publish a checkpoint whose run had collapsed when it was written; the card says so."""
    without_probes: bool = False
    """Publish a checkpoint without a probe report; the card says so."""
    onnx: bool = False
    """Write every encoder and the fusion as ONNX as well, checked against torch."""
    datasets: tuple[str, ...] = ()
    """Names that the pretraining sets have on the Hugging Face Hub, for the card's metadata."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.\-]*", self.licence):
            raise ValueError(
                "publish.licence is needed, as the Hub spells it (for example apache-2.0, "
                f"cc-by-4.0, other), got {self.licence!r}"
            )
        if not re.fullmatch(r"[A-Za-z0-9][\w.\-]*", self.name):
            raise ValueError(f"publish.name must be letters, digits, . - _, got {self.name!r}")
        if self.onnx:
            refuse_without_onnx()


def publish(checkpoint: Checkpoint, out: Path, config: PublishConfig) -> Path:
    """Write a published backbone and check it in a fresh process before it appears.

    Publishing the same thing again changes nothing.

    Args:
        checkpoint: A whole checkpoint.
        out: Folder to create.
        config: Licence and name.

    Returns:
        ``out``.

    Raises:
        ValueError: ``out`` holds something else; the run had collapsed; no probe report;
            non-finite weights; a file that may hold a pickle; the result does not load as it
            should. Nothing is written.
        CheckpointError: The checkpoint is not whole, or changed since it was opened.
        NoRoomError: The disk is full. Nothing is written.
    """
    _refuse_foreign_content(out)
    _check_unchanged(checkpoint)
    if not config.allow_unfit:
        _refuse_unfit(checkpoint)
    if not config.without_probes:
        _refuse_unprobed(checkpoint)
    refuse_pickles(checkpoint.backbone)
    refuse_non_finite(checkpoint.backbone)
    with room_named(out), _scratch_beside(out) as scratch:
        folder = scratch / "new"
        folder.mkdir()
        _write(checkpoint, folder, config)
        if not _is_published(folder, out, config):
            _check_release(folder)
            _put_in_place(folder, out, scratch)
    return out


def verify_published(folder: Path) -> str:
    """Check a published folder, or one encoder's folder of it: sums, no pickle, features.

    It may have been downloaded from the Hub, by any of its ways.

    Returns:
        What was found, as a sentence.

    Raises:
        ValueError: Names the files that are wrong.
    """
    verify_checksums(folder, received_files)
    refuse_pickles(folder, received_files)
    return check_in_fresh_process(folder)


def probe_reports(checkpoint: Checkpoint) -> list[ProbeReport]:
    """Reports of this very checkpoint, by task name; those of another digest are left out.

    Raises:
        ValueError: A file is no report, or the report of another task than its name says.
    """
    folder = checkpoint.run / "probes" / checkpoint.folder.name
    found = {path: report_from_json(read_json(path)) for path in sorted(folder.glob("*.json"))}
    own = {p: r for p, r in found.items() if r.checkpoint["digest"] == checkpoint.digest}
    for path, report in own.items():
        if report.task["name"] != path.stem:  # which also makes it usable as a file name
            raise ValueError(
                f"{path}: is a report on task {report.task['name']!r}; probe again, or take it away"
            )
    return list(own.values())


@contextmanager
def _scratch_beside(out: Path) -> Iterator[Path]:
    """A folder on the disk of ``out`` that lasts as long as the block."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp-", dir=out.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(checkpoint: Checkpoint, folder: Path, config: PublishConfig) -> None:
    """Fill the folder; the sums come last."""
    backbone = Backbone.load(checkpoint.backbone)
    backbone.save(folder)
    transformers_logging.disable_progress_bar()  # it counts files, of which there is one
    exported = export_transformers(backbone, folder)
    transformers_logging.enable_progress_bar()
    onnx = export_onnx(backbone, folder / "onnx") if config.onnx else ()
    write_reference(backbone, folder)
    write_json(folder / "training_config.json", strip_private(checkpoint.config))
    reports = probe_reports(checkpoint)
    for report in reports:
        path = folder / "probes" / f"{report.task['name']}.json"
        write_json(path, strip_private(report.to_json()))
    facts = gather_facts(checkpoint, backbone, exported, onnx)
    card = render_card(facts, reports, config.name, config.licence, config.datasets)
    refuse_incomplete_card(card, num_results(reports))
    write_text(folder / "README.md", card)
    write_checksums(folder)


def _check_release(folder: Path) -> None:
    """Plain files alone, what a receiver can check, and a search for paths and names."""
    verify_checksums(folder)
    refuse_private(folder)
    refuse_non_finite(folder)
    verify_published(folder)


def _check_unchanged(checkpoint: Checkpoint) -> None:
    found = open_checkpoint(checkpoint.folder).digest
    if found != checkpoint.digest:
        raise CheckpointError(
            f"{checkpoint.folder}: replaced since it was opened; name it again to publish it"
        )


def _refuse_unfit(checkpoint: Checkpoint) -> None:
    """A checkpoint without a verdict is not refused; the card says that none was recorded."""
    verdict = load_verdict(checkpoint.folder)
    if verdict is not None and not verdict.fit_to_publish:
        raise ValueError(
            f"{checkpoint.folder}: unfit to publish, the run had collapsed: "
            f"{verdict.sentences()[0]} To publish it all the same: --allow-unfit"
        )


def _refuse_unprobed(checkpoint: Checkpoint) -> None:
    if not any(report.subsets for report in probe_reports(checkpoint)):
        raise ValueError(
            f"{checkpoint.folder}: no probe report, so nobody could say what it is worth: "
            f"triptych probe {checkpoint.folder} TASK. To publish it all the same: "
            "--without-probes"
        )


def _refuse_foreign_content(out: Path) -> None:
    """Only a published backbone, with nothing added to it, may ever be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    strange = unlisted_files(out) if (out / SUMS_FILE).is_file() else ["something"]
    if strange:
        raise ValueError(
            f"{out}: holds {strange[0]}, which is no part of a published backbone; choose another "
            "folder"
        )


def _is_published(folder: Path, out: Path, config: PublishConfig) -> bool:
    """Whether ``out`` holds this very release already.

    Raises:
        ValueError: It holds another one, or a damaged one, and may not be overwritten.
    """
    if config.overwrite or not (out / SUMS_FILE).is_file():
        return False
    if (out / SUMS_FILE).read_bytes() != (folder / SUMS_FILE).read_bytes():
        raise ValueError(f"{out}: another backbone is published here; use overwrite to replace it")
    verify_checksums(out)
    return True


def _put_in_place(folder: Path, out: Path, scratch: Path) -> None:
    """Rename; what was there goes with the scratch folder, or comes back."""
    if not out.exists():
        os.rename(folder, out)
        return
    old = scratch / "old"
    os.rename(out, old)
    try:
        os.rename(folder, out)
    except BaseException:
        os.rename(old, out)
        raise
