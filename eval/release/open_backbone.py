"""A backbone for use, wherever it lies: published, or in a checkpoint of a run."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from eval.release.release_checks import received_files, refuse_pickles
from pretrain.checkpoint import open_checkpoint
from pretrain.models.sums import SUMS_FILE


@dataclass(frozen=True, kw_only=True)
class FoundBackbone:
    """Where its files lie, and what they are."""

    folder: Path
    """What `Backbone.load` reads."""
    digest: str
    """sha256 of ``SHA256SUMS``, or the checkpoint's digest: of all that it is made of."""


def open_backbone(path: Path) -> FoundBackbone:
    """A published folder, perhaps downloaded; a checkpoint; a run for its newest checkpoint.

    A checkpoint is checked by its sums here, a published folder by `Embedder.load`.

    Raises:
        ValueError: Nothing of the kind, or a file that may hold a pickle.
        CheckpointError: The run or checkpoint is not whole.
    """
    if (path / SUMS_FILE).is_file():
        refuse_pickles(path, received_files)
        digest = hashlib.sha256((path / SUMS_FILE).read_bytes()).hexdigest()
        return FoundBackbone(folder=path, digest=digest)
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder; a published backbone or a run is needed")
    checkpoint = open_checkpoint(path)
    return FoundBackbone(folder=checkpoint.backbone, digest=checkpoint.digest)
