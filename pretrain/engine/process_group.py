"""The ranks that train together, and DeepSpeed's import with its noise taken away."""

import contextlib
import io
import logging
import os
import warnings
from datetime import timedelta

import torch
import torch.distributed as dist

if not torch.cuda.is_available():
    # DeepSpeed picks its accelerator when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.utils import logger

logger.setLevel(logging.WARNING)
# Said at every start, by every rank, and nothing a user can act on: torch's note that a machine
# has no CUDA, and its wish that DeepSpeed renamed a call.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*(all_gather_into|reduce_scatter)_tensor")
# Which optimizers are let under ZeRO is decided, and tested, here; a step that was passed over is
# told by the trainer, with its samples.
UNSAID = ("untested optimizer", "OVERFLOW!")
logger.addFilter(lambda record: not any(word in record.getMessage() for word in UNSAID))


def join_process_group(timeout_minutes: float = 10.0) -> None:
    """Join the ranks that RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe.

    Raises:
        ValueError: one of the five is not set (DeepSpeed would go looking for MPI).
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in names if name not in os.environ]:
        raise ValueError(f"cannot join the other ranks: {', '.join(missing)} not set")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # where nccl keeps what it gathers
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the name of an op that it built
        deepspeed.init_distributed(
            dist_backend="nccl" if torch.cuda.is_available() else "gloo",
            timeout=timedelta(minutes=timeout_minutes),
            verbose=False,
        )


def leave_process_group() -> None:
    """End communication with the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()
