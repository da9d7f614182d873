"""The ranks that train together, and DeepSpeed's import with its noise taken away."""

import contextlib
import io
import logging
import os
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d

if not torch.cuda.is_available():
    # DeepSpeed picks its accelerator when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import logger

logger.setLevel(logging.WARNING)
# Said at every start, by every rank, and nothing a user can act on: torch's note that a machine
# has no CUDA, and its wish that DeepSpeed renamed a call.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*(all_gather_into|reduce_scatter)_tensor")
# Which optimizers are let under ZeRO is decided, and tested, here; a step that was passed over is
# told by the trainer, with its samples; and the modules whose outputs stage 3 does not look into
# own no weights, their parts do.
UNSAID = ("untested optimizer", "OVERFLOW!", "unknown inputs or outputs type")
logger.addFilter(lambda record: not any(word in record.getMessage() for word in UNSAID))

_accelerator = get_accelerator()
assert _accelerator is not None
DEVICE = torch.device(_accelerator.device_name())
"""What DeepSpeed trains on: ``cuda`` or ``cpu``."""


def join_process_group(timeout_minutes: float = 10.0) -> None:
    """Join the ranks that RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe.

    Raises:
        ValueError: one of the five is not set (DeepSpeed would go looking for MPI).
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in names if name not in os.environ]:
        raise ValueError(f"cannot join the other ranks: {', '.join(missing)} not set")
    if DEVICE.type == "cuda":
        _take_device(int(os.environ["LOCAL_RANK"]))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the name of an op that it built
        deepspeed.init_distributed(
            dist_backend="nccl" if DEVICE.type == "cuda" else "gloo",
            timeout=timedelta(minutes=timeout_minutes),
            verbose=False,
        )


def _take_device(local_rank: int) -> None:
    """Make a GPU this rank's own, before anything is sent from it."""
    if local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"rank {local_rank} of this node has no GPU: {torch.cuda.device_count()} are visible. "
            "Start as many ranks as the node has GPUs, and let each see all of them"
        )
    torch.cuda.set_device(local_rank)


def bound_every_group() -> None:
    """Give all groups of ranks, DeepSpeed's own too, the patience of the one that all joined.

    Else they have torch's, ten minutes with nccl: the watchdog, which can name the rank that is
    missing, would come too late.
    """
    whole = dist.group.WORLD
    assert whole is not None
    patience = whole._get_backend(DEVICE).options._timeout
    for group in distributed_c10d._world.pg_map:
        group._get_backend(DEVICE)._set_default_timeout(patience)


def leave_process_group() -> None:
    """End communication with the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()
