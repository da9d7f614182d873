"""A module, its optimizer, and the ranks that train it together."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from pretrain.engine import process_group  # decides what DeepSpeed finds at import

# isort: split
import deepspeed
from deepspeed.utils import safe_get_full_fp32_param

from pretrain.engine.masters import Master, find_masters, set_frozen, show_masters
from pretrain.engine.settings import EngineSettings
from pretrain.fragment_files import FragmentReader, entries, snapshot, whole_entries
from pretrain.fragments import Fragment, whole
from pretrain.parts import Write

STATE_FOLDER = "engine"
"""Sub-folder of a checkpoint."""

STEP = "step"
"""What optimizers call the count of steps that they keep beside the moments."""


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
        self._optimizer = optimizer
        self._bare_norm = 0.0
        # DeepSpeed casts, and at stage 3 cuts up, the whole module.
        originals = {
            name: parameter.detach().clone()
            for name, parameter in module.named_parameters()
            if settings.precision != "fp32" or settings.zero_stage == 3
        }
        num_trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
        # Any: DeepSpeed's own annotations leave out what its engines always have.
        self._engine: Any
        with _untouched_by_a_trial_step(optimizer):
            self._engine, *_ = deepspeed.initialize(
                model=module,
                optimizer=optimizer,
                config=settings.to_deepspeed(self.world_size, num_trained)
                # DeepSpeed vouches for Adam alone. The others work weight by weight too, so flat
                # partitions change nothing for them; LARS does not, and is refused by the
                # configuration.
                | {"zero_allow_untested_optimizer": not isinstance(optimizer, torch.optim.AdamW)},
            )
        process_group.bound_every_group()
        self.device: torch.device = torch.device(self._engine.device)
        named = dict(self.module.named_parameters())
        self._trained = {name: p for name, p in named.items() if p.requires_grad}
        self._masters = find_masters(self._engine.optimizer, self._trained, settings)
        # What is frozen has no master in any optimizer.
        self._frozen = {
            name: originals[name].cpu() if originals else parameter.detach()
            for name, parameter in named.items()
            if not parameter.requires_grad
        }
        self._start_from(originals)

    @property
    def replicated(self) -> bool:
        """Whether every rank holds every float32 weight whole."""
        alone = self.world_size == 1 and self._settings.zero_stage < 3
        return self._settings.replicated or alone

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

        To find the culprit after a skipped step: nothing is accumulated, and no other rank's
        gradient is looked at. Collective at stage 3, where weights are gathered as they are used.

        Args:
            loss: Computed by `module` itself, not by `forward`.
        """
        gradients = torch.autograd.grad(loss, list(self._trained.values()), allow_unused=True)
        return [
            name
            for name, gradient in zip(self._trained, gradients, strict=True)
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

    def master_fragments(self) -> list[Fragment]:
        """This rank's stretches of the trained weights' float32 masters.

        Where `replicated`, they are whole and the same on every rank; elsewhere those of all
        ranks together are every entry once. They share memory with the masters.
        """
        if self._settings.replicated and self._settings.precision == "fp32":
            return whole(self._trained.items())
        return [master.fragment for master in self._masters]

    def master_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter's full float32 master by name. Collective: all ranks, same order."""
        fragments = {f.name: f.value for f in self.master_fragments()} if self.replicated else {}
        for name, parameter in self.module.named_parameters():
            if name in self._frozen:
                yield name, self._frozen[name].to(self.device)
            elif self.replicated:
                yield name, fragments[name].view(parameter.shape)
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

    def restore_frozen(self, masters: Mapping[str, Tensor]) -> None:
        """Take the float32 weights of what is frozen, which no optimizer steps.

        Args:
            masters: By name; a frozen weight is the same in the target network.
        """
        named = dict(self.module.named_parameters())
        for name, weight in self._frozen.items():
            weight.copy_(masters[name])
            set_frozen(named[name], weight)

    def snapshot(self) -> Write:
        """Copy this rank's part of weights, moments and buffers; the result writes it."""
        state: dict[str, Tensor] = {}
        if self.rank == 0:
            state |= whole_entries("frozen", self._frozen.items())
            state |= whole_entries("buffer", self.module.named_buffers())
        if self.rank == 0 or self._settings.zero_stage > 0:
            state |= entries("master", [master.fragment for master in self._masters])
            for master in self._masters:
                state |= self._moments(master)
        return snapshot(STATE_FOLDER, self.rank, state, {"optimizer": self._optimizer_name})

    def load(self, folder: Path) -> None:
        """Read back what `snapshot` wrote on any number of ranks at any stage. Collective.

        Raises:
            ValueError: it is the state of another network or optimizer.
        """
        state = FragmentReader(folder / STATE_FOLDER)
        self._check(state)
        for master in self._masters:
            state.fill("master", master.fragment)
        self._optimizer.state.clear()
        for master in self._masters:
            self._read_moments(state, master)
        self.restore_frozen({name: state.tensor("frozen", name) for name in self._frozen})
        for name, buffer in self.module.named_buffers():
            buffer.copy_(state.tensor("buffer", name))
        show_masters(self._engine.optimizer, self._settings)

    def close(self) -> None:
        """Let go of DeepSpeed's hooks; the process may then make another engine."""
        self._engine.destroy()

    @property
    def _optimizer_name(self) -> str:
        return type(self._optimizer).__name__

    def _start_from(self, originals: Mapping[str, Tensor]) -> None:
        """Give the masters the weights as they were: DeepSpeed makes them of rounded ones."""
        for fragment in (master.fragment for master in self._masters if originals):
            original = originals[fragment.name].flatten().to(fragment.value.device)
            fragment.value.copy_(original[fragment.start :][: fragment.value.numel()])

    def _moments(self, master: Master) -> dict[str, Tensor]:
        """What the optimizer keeps of a master, by kind."""
        found: dict[str, Tensor] = {}
        for kind, value in self._optimizer.state.get(master.stepped, {}).items():
            if kind == STEP:
                found |= whole_entries(kind, [(master.fragment.name, value)])
            elif isinstance(value, Tensor):
                found |= entries(kind, [master.stretch_of(value)])
        return found

    def _read_moments(self, state: FragmentReader, master: Master) -> None:
        """Fill the optimizer's moments of a master, made where they are not yet."""
        name, kept = master.fragment.name, self._optimizer.state[master.stepped]
        for kind in state.kinds - {"master", "frozen", "buffer", STEP}:
            if state.has(kind, name):
                if kind not in kept:
                    kept[kind] = torch.zeros_like(master.stepped)
                state.fill(kind, master.stretch_of(kept[kind]))
        if state.has(STEP, name):
            step = state.tensor(STEP, name).to(master.stepped.device)
            if not torch.equal(kept.setdefault(STEP, step), step):
                raise ValueError(
                    f"{name} was stepped {step.item():.0f} times and others "
                    f"{kept[STEP].item():.0f} times; ZeRO keeps one count for them all: resume "
                    "with pretrain.zero_stage 0"
                )

    def _check(self, state: FragmentReader) -> None:
        if (written := state.about.get("optimizer")) != self._optimizer_name:
            raise ValueError(
                f"the checkpoint's moments are of {written}, and optim.optimizer makes "
                f"{self._optimizer_name}: resume with the optimizer that the run began with"
            )
        sizes = {
            name: getattr(parameter, "ds_numel", parameter.numel())
            for name, parameter in self.module.named_parameters()
        }
        state.check("master", {name: sizes[name] for name in self._trained})
        state.check("frozen", {name: sizes[name] for name in self._frozen})
        state.check("buffer", {name: b.numel() for name, b in self.module.named_buffers()})
