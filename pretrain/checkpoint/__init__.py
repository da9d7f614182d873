"""Checkpoints: written whole or not at all, and read only when whole.

A part's snapshot and the step go in; a folder ``step-00000200`` with a COMPLETE file that holds
the sha256 of every other file comes out. Neither torch nor DeepSpeed is needed to read one.
This package must not know: what the files hold, DeepSpeed, probes, Slurm.
"""

from pretrain.checkpoint.leases import take_lease
from pretrain.checkpoint.ranks import OneRank, Ranks
from pretrain.checkpoint.read import newest_complete, open_checkpoint
from pretrain.checkpoint.record import (
    COMPLETE,
    Checkpoint,
    CheckpointError,
    Marker,
    Progress,
    library_versions,
)
from pretrain.checkpoint.resume import resume_point, start_afresh
from pretrain.checkpoint.retention import MIN_KEPT, remove_old
from pretrain.checkpoint.write import CheckpointConfig, CheckpointWriter
from pretrain.parts import Part, Write

__all__ = [
    "COMPLETE",
    "MIN_KEPT",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointError",
    "CheckpointWriter",
    "Marker",
    "OneRank",
    "Part",
    "Progress",
    "Ranks",
    "Write",
    "library_versions",
    "newest_complete",
    "open_checkpoint",
    "remove_old",
    "resume_point",
    "start_afresh",
    "take_lease",
]
