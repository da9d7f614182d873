"""The only door to DeepSpeed: process group, ZeRO, optimizer step, its part of a checkpoint."""

import contextlib
import io
import logging
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

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
# Which optimizers are let under ZeRO is decided, and tested, here.
logger.addFilter(lambda record: "untested optimizer" not in record.getMessage())

TAG = "deepspeed"
"""Sub-folder of a checkpoint that DeepSpeed writes; its own ``latest`` file is never made."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What DeepSpeed's JSON is derived from; never written by hand."""

    micro_samples: int
    accumulation_steps: int
    max_gradient_norm: float | None
    precision: Literal["fp32", "bf16"]
    zero_stage: Literal[0, 1]

    @property
    def bare(self) -> bool:
        """Whether DeepSpeed steps the optimizer itself, with no wrapper that checks gradients."""
        return self.zero_stage == 0 and self.precision == "fp32"

    def to_deepspeed(self, world_size: int) -> dict[str, Any]:
        """The configuration that ``deepspeed.initialize`` takes."""
        return {
            "train_batch_size": self.micro_samples * self.accumulation_steps * world_size,
            "train_micro_batch_size_per_gpu": self.micro_samples,
            "gradient_accumulation_steps": self.accumulation_steps,
            # Where it steps the optimizer bare, `Engine` clips: it needs the norm anyway.
            "gradient_clipping": 0.0 if self.bare else self.max_gradient_norm or 0.0,
            "zero_optimization": {"stage": self.zero_stage},
            # It skips a step whose gradient is not finite.
            "bf16": {"enabled": self.precision == "bf16", "check_grad_overflow": True},
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


@contextlib.contextmanager
def _untouched_by_a_trial_step(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Undo what DeepSpeed's start does to an optimizer.

    For bf16 at stage 0 it takes a step on zero gradients, to make the state: with weight decay
    that changes the masters, and it makes Adam count a step too many.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    yield
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.state.clear()


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
        self._bare_norm = 0.0
        # DeepSpeed casts the whole module; what is frozen has no master in any optimizer.
        self._frozen = {
            name: parameter.clone()
            for name, parameter in module.named_parameters()
            if settings.precision != "fp32" and not parameter.requires_grad
        }
        # Any: DeepSpeed's own annotations leave out what its engines always have.
        self._engine: Any
        with _untouched_by_a_trial_step(optimizer):
            self._engine, *_ = deepspeed.initialize(
                model=module,
                optimizer=optimizer,
                config=settings.to_deepspeed(self.world_size)
                # DeepSpeed vouches for Adam alone. The others work weight by weight too, so flat
                # partitions change nothing for them; LARS does not, and is refused by the
                # configuration.
                | {"zero_allow_untested_optimizer": not isinstance(optimizer, torch.optim.AdamW)},
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
            Whether weights were changed. Where the gradient of the whole batch is not finite
            they are not, nor are the optimizer's moments, on any rank.
        """
        boundary = self._engine.is_gradient_accumulation_boundary()
        if boundary and self._settings.bare and not self._clip():
            self._engine.zero_grad()
            self._engine.micro_steps += 1
            return False
        self._engine.step()
        return boundary and self._engine.was_step_applied()

    def gradient_norm(self) -> float:
        """Global norm of the last gradient before clipping; inf or NaN where it was refused."""
        if self._settings.bare:
            return self._bare_norm
        return float(self._engine.get_global_grad_norm() or 0.0)

    def non_finite_gradients(self, loss: Tensor) -> list[str]:
        """Names of the parameters whose gradient of ``loss`` is not finite.

        To find the culprit after a skipped step: nothing is accumulated and nobody is asked.

        Args:
            loss: Computed by `module` itself, not by `forward`.
        """
        named = [(n, p) for n, p in self.module.named_parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
        return [
            name
            for (name, _), gradient in zip(named, gradients, strict=True)
            if gradient is not None and not gradient.isfinite().all()
        ]

    def _clip(self) -> bool:
        """Scale the averaged gradients down to their greatest norm; whether it is finite."""
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        self._bare_norm = norm.item()
        if not math.isfinite(self._bare_norm):
            return False
        if self._settings.max_gradient_norm is not None:
            clip_grads_with_norm_(parameters, self._settings.max_gradient_norm, norm)
        return True

    def master_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter's full float32 master by name. Collective: all ranks, same order."""
        unpartitioned = self._unpartitioned_masters()
        for name, parameter in self.module.named_parameters():
            if parameter.dtype == torch.float32:
                yield name, parameter.detach()
            elif name in self._frozen:
                yield name, self._frozen[name].to(self.device)
            elif self._settings.zero_stage == 0:
                yield name, unpartitioned[parameter]
            else:
                master = safe_get_full_fp32_param(parameter)
                assert master is not None, name
                yield name, master

    def _unpartitioned_masters(self) -> dict[Tensor, Tensor]:
        """Masters by working weight where DeepSpeed keeps them whole: bf16 at stage 0."""
        if self._settings.bare or self._settings.zero_stage > 0:
            return {}
        wrapper = self._engine.optimizer
        groups = zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True)
        return {
            working: master.detach()
            for workings, masters in groups
            for working, master in zip(workings, masters, strict=True)
        }

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        """Sum of ``value`` over all ranks, the same on each. Collective."""
        total = value.detach().clone().to(self.device)
        dist.all_reduce(total)
        return total

    def agree(self, ok: bool) -> bool:
        """Whether ``ok`` holds on every rank. Collective."""
        votes = self.sum_over_ranks(torch.tensor(float(ok)))
        return int(votes.item()) == self.world_size

    def restore_frozen(self, masters: Mapping[str, Tensor]) -> None:
        """Take the float32 weights of what is frozen, which no optimizer state holds.

        Args:
            masters: By name; a frozen weight is the same in the target network.
        """
        for name in self._frozen:
            self._frozen[name] = masters[name].detach().cpu().clone()

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
