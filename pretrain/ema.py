"""The target network: an exponential moving average of the online network's weights.

This is the one writer of target weights in a run.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pretrain.kernels import ema_update_
from pretrain.schedules import ema_tau, preset_tau


@dataclass(frozen=True, kw_only=True)
class EmaConfig:
    """Pace of the target network (Grill et al. 2020, section 3.3)."""

    base_tau: float | None = None
    """Share of the old target kept at step 0, in [0, 1); rises to 1 on a half cosine. None is the
    preset for the run's epochs and batch: 0.97 to 0.996 at a batch of 4096 for 40 to 1000 epochs,
    to the power of batch / 4096, and never more than 1 - 10 / total_steps."""

    def __post_init__(self) -> None:
        if self.base_tau is not None and not 0.0 <= self.base_tau < 1.0:
            raise ValueError(f"ema.base_tau must be in [0, 1), got {self.base_tau}")

    def tau_for(self, num_samples: int, global_samples: int, total_steps: int) -> float:
        """``base_tau``, or the preset for a run of this size (`schedules.preset_tau`)."""
        if self.base_tau is not None:
            return self.base_tau
        return preset_tau(num_samples, global_samples, total_steps)


class Target:
    """The target network and its float32 masters.

    The masters are kept in float32: at tau = 0.996 a bfloat16 target rounds most updates
    away. When the network itself is float32 its parameters are the masters; otherwise the
    network is a working copy that every update overwrites. Buffers are never averaged.

    Args:
        network: A float32 copy of the online network, without its predictors.
        base_tau: Tau at step 0, in [0, 1]; at 1 the target never moves.
        total_steps: K, all optimizer steps of the run.
        working_dtype: Dtype of the forward pass.
    """

    def __init__(
        self,
        network: nn.Module,
        base_tau: float,
        total_steps: int,
        working_dtype: torch.dtype = torch.float32,
    ) -> None:
        self.network = network.requires_grad_(False)
        self._base_tau = base_tau
        self._total_steps = total_steps
        self._mixed = working_dtype != torch.float32
        # Taken before the cast: a master that starts rounded stays wrong for long.
        self.masters = {name: p.detach() for name, p in network.named_parameters()}
        for parameter in network.parameters() if self._mixed else ():
            parameter.data = parameter.data.to(working_dtype)

    def tau(self, step: int) -> float:
        """Tau of the update that follows optimizer step ``step`` (counted from 0)."""
        return ema_tau(step, self._total_steps, self._base_tau)

    def update(self, online: Iterable[tuple[str, Tensor]], step: int) -> None:
        """Follow the online weights; call once, after an optimizer step that was applied.

        Args:
            online: Float32 masters of the online network by name; names that the target
                lacks (the predictors) are passed over.
            step: The optimizer step just applied, counted from 0.

        Raises:
            ValueError: a target parameter has no online counterpart.
        """
        sources = {name: value for name, value in online if name in self.masters}
        if missing := self.masters.keys() - sources.keys():
            raise ValueError(f"ema: no online weight for {sorted(missing)[0]}")
        names = list(self.masters)
        parameters = dict(self.network.named_parameters())
        ema_update_(
            [self.masters[name] for name in names],
            [sources[name].detach() for name in names],
            self.tau(step),
            [parameters[name].detach() for name in names] if self._mixed else None,
        )

    @contextmanager
    def float32_weights(self) -> Iterator[None]:
        """Within it, the network's parameters are the float32 masters themselves."""
        parameters = dict(self.network.named_parameters())
        working = {name: parameter.data for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter.data = self.masters[name]
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = working[name]

    def save(self, path: Path) -> None:
        """Write masters and buffers as safetensors."""
        buffers = dict(self.network.named_buffers())
        state = {f"master.{name}": value for name, value in self.masters.items()}
        state |= {f"buffer.{name}": value for name, value in buffers.items()}
        save_file({name: value.contiguous().cpu() for name, value in state.items()}, path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote.

        Raises:
            ValueError: the file's tensors are not this network's.
        """
        state = load_file(path)
        parameters = dict(self.network.named_parameters())
        expected: Mapping[str, Tensor] = {
            f"master.{name}": value for name, value in self.masters.items()
        } | {f"buffer.{name}": value for name, value in self.network.named_buffers()}
        if state.keys() != expected.keys():
            differing = sorted(state.keys() ^ expected.keys())
            raise ValueError(f"{path}: not the weights of this target network: {differing[0]}")
        for name, value in expected.items():
            value.copy_(state[name])
        for name, master in self.masters.items():
            parameters[name].detach().copy_(master)
