"""The only door to DeepSpeed: process group, ZeRO, optimizer step, its part of a checkpoint."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

if not torch.cuda.is_available():
    # DeepSpeed picks its accelerator when it is imported.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
from deepspeed.utils import logger, safe_get_full_fp32_param

logger.setLevel(logging.WARNING)
# Said at every start, by every rank, and nothing a user can act on: torch's note that a machine
# has no CUDA, and its wish that DeepSpeed renamed a call.
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message=".*(all_gather_into|reduce_scatter)_tensor")

TAG = "deepspeed"
"""Sub-folder of a checkpoint that DeepSpeed writes; its own ``latest`` file is never made."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What DeepSpeed's JSON is derived from; never written by hand."""

    micro_samples: int
    accumulation_steps: int
    max_gradient_norm: float
    precision: Literal["fp32", "bf16"]
    zero_stage: Literal[0, 1]

    def to_deepspeed(self, world_size: int) -> dict[str, Any]:
        """The configuration that ``deepspeed.initialize`` takes."""
        return {
            "train_batch_size": self.micro_samples * self.accumulation_steps * world_size,
            "train_micro_batch_size_per_gpu": self.micro_samples,
            "gradient_accumulation_steps": self.accumulation_steps,
            "gradient_clipping": self.max_gradient_norm,
            "zero_optimization": {"stage": self.zero_stage},
            "bf16": {"enabled": self.precision == "bf16"},
            "checkpoint": {"tag_validation": "Fail"},
            "steps_per_print": None,
        }


def join_process_group(timeout_minutes: float = 10.0) -> None:
    """Join the ranks that RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT describe.

    Raises:
        ValueError: one of the five is not set (DeepSpeed would go looking for MPI).
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in names if name not in os.environ]:
        raise ValueError(f"cannot join the other ranks: {', '.join(missing)} not set")
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


class Engine:
    """A module, its optimizer, and the ranks that train it together.

    Needs a process group (`join_process_group`).
    """

    def __init__(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, settings: EngineSettings
    ) -> None:
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()
        self._settings = settings
        # Any: DeepSpeed's own annotations leave out what its engines always have.
        self._engine: Any
        self._engine, *_ = deepspeed.initialize(
            model=module, optimizer=optimizer, config=settings.to_deepspeed(self.world_size)
        )
        self.device: torch.device = torch.device(self._engine.device)

    @property
    def module(self) -> nn.Module:
        """The trained module, without DeepSpeed's wrapping."""
        return self._engine.module

    @property
    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups, for the learning rate."""
        return self._engine.optimizer.param_groups

    def forward(self, *inputs: Any) -> Any:  # noqa: ANN401
        """The module's output for one micro-batch."""
        return self._engine(*inputs)

    def backward(self, loss: Tensor) -> None:
        """Add a micro-batch's gradients; DeepSpeed averages over ranks and accumulation."""
        self._engine.backward(loss)

    def step(self) -> bool:
        """Count a micro-batch; at the last of a batch apply the optimizer step.

        Returns:
            Whether weights were changed.
        """
        boundary = self._engine.is_gradient_accumulation_boundary()
        self._engine.step()
        return boundary and self._engine.was_step_applied()

    def gradient_norm(self) -> float:
        """Global gradient norm of the last optimizer step, before clipping."""
        return float(self._engine.get_global_grad_norm() or 0.0)

    def master_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter's full float32 master by name. Collective: all ranks, same order."""
        for name, parameter in self.module.named_parameters():
            if parameter.dtype == torch.float32:
                yield name, parameter.detach()
            else:
                master = safe_get_full_fp32_param(parameter)
                assert master is not None, name
                yield name, master

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Sum of ``value`` over all ranks, the same on each. Collective."""
        total = value.detach().clone().to(self.device)
        dist.all_reduce(total)
        return total

    def agree(self, ok: bool) -> bool:
        """Whether ``ok`` holds on every rank. Collective."""
        votes = self.sum_over_ranks(torch.tensor(float(ok)))
        return int(votes.item()) == self.world_size

    def save(self, folder: Path) -> None:
        """Write this rank's part of the module and optimizer state. Collective."""
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """Read back what `save` wrote on the same number of ranks. Collective.

        Raises:
            ValueError: nothing was loaded.
        """
        path, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        if path is None:
            raise ValueError(f"{folder / TAG}: DeepSpeed could not load this checkpoint")
