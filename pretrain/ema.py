"""The target network: an exponential moving average of the online network's weights.

This is the one writer of target weights in a run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pretrain.fragment_files import FragmentReader, entries, snapshot, whole_entries
from pretrain.fragments import Fragment, Gather, whole
from pretrain.kernels import StepNumbers, TensorTable, ema_numbers, ema_update_
from pretrain.parts import Write
from pretrain.schedules import ema_tau, preset_tau

STATE_FOLDER = "target"
"""Sub-folder of a checkpoint."""


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
    away. Where every rank holds the online masters whole, so it does the target's; in float32
    they are the network's own parameters. Where the ranks share the online masters out, each
    keeps and updates the same stretches of the target, and one gather of the working dtype makes
    the network of them. Buffers are never averaged; what is frozen never moves.

    Making one where the ranks share out is collective.

    Args:
        network: A float32 copy of the online network, without its predictors.
        base_tau: Tau at step 0, in [0, 1]; at 1 the target never moves.
        total_steps: K, all optimizer steps of the run.
        working_dtype: Dtype of the forward pass.
        shared_out: This rank's fragments of the online masters, where no rank has them all.
    """

    def __init__(
        self,
        network: nn.Module,
        base_tau: float,
        total_steps: int,
        working_dtype: torch.dtype = torch.float32,
        shared_out: Sequence[Fragment] | None = None,
    ) -> None:
        followed = {name: p for name, p in network.named_parameters() if p.requires_grad}
        # Taken before the cast: a master that starts rounded stays wrong for long.
        self._frozen = {
            name: parameter.detach()
            for name, parameter in network.named_parameters()
            if not parameter.requires_grad
        }
        self.network = network.requires_grad_(False)
        self._followed = followed
        self._base_tau = base_tau
        self._total_steps = total_steps
        self.masters = whole(followed.items())
        """This rank's stretches of the weights that move."""
        self._gather: Gather | None = None
        self._places: list[Tensor] | None = None
        self._table = TensorTable()
        self._weight = StepNumbers(1, next(network.parameters()).detach())
        if shared_out is not None:
            self.masters = [_stretch(followed, f) for f in shared_out if f.name in followed]
            sizes = {name: parameter.numel() for name, parameter in followed.items()}
            self._gather = Gather(self.masters, sizes)
        for parameter in network.parameters():
            parameter.data = parameter.data.to(working_dtype)
        self._mixed = working_dtype != torch.float32

    def tau(self, step: int) -> float:
        """Tau of the update that follows optimizer step ``step`` (counted from 0)."""
        return ema_tau(step, self._total_steps, self._base_tau)

    def set_pace(self, step: int) -> None:
        """Have the next update follow by the tau of optimizer step ``step``, counted from 0."""
        self._weight.set(ema_numbers(self.tau(step)))

    def update(self, online: Iterable[Fragment]) -> None:
        """Follow the online weights, at the pace that was set for the step.

        Call once, after an optimizer step that was applied.

        Collective where the ranks share the masters out.

        Args:
            online: This rank's float32 masters of the online network; names that the target
                lacks (the predictors) are passed over.

        Raises:
            ValueError: a target parameter has no online counterpart, or no pace was ever set.
        """
        if not self._weight.known:
            raise ValueError("ema: no pace was set; call set_pace with the step before update")
        sources = {(f.name, f.start): f.value for f in online}
        if missing := [f.name for f in self.masters if (f.name, f.start) not in sources]:
            raise ValueError(f"ema: no online weight for {min(missing)}")
        with self._working_copies() as copies:
            ema_update_(
                [master.value for master in self.masters],
                [sources[master.name, master.start] for master in self.masters],
                self._weight.tensor,
                copies,
                table=self._table,
            )

    def full_masters(self) -> dict[str, Tensor]:
        """Every parameter's float32 master, on every rank; not to be written to.

        Collective where the ranks share the masters out.
        """
        found = self._own_masters()
        if self._gather is not None and self._mixed:
            self._gather.to_all(self._filled(self._gather), self._gather.places(found))
        return found

    def masters_on_first(self) -> dict[str, Tensor] | None:
        """`full_masters` on the first rank, None on the others. Collective like it."""
        first = not dist.is_initialized() or dist.get_rank() == 0
        found = self._own_masters() if first else {}
        if self._gather is not None and self._mixed:
            places = self._gather.places(found) if first else []
            self._gather.to_first(self._filled(self._gather), places)
        return found if first else None

    @contextmanager
    def float32_weights(self, masters: Mapping[str, Tensor]) -> Iterator[None]:
        """Within it, the network's parameters are ``masters``, which `full_masters` gave."""
        parameters = dict(self.network.named_parameters())
        working = {name: parameter.data for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter.data = masters[name]
        try:
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = working[name]

    def snapshot(self) -> Write:
        """Copy this rank's masters, and on the first rank the buffers; the result writes them."""
        rank = dist.get_rank() if dist.is_initialized() else 0
        state: dict[str, Tensor] = {}
        if rank == 0:
            state |= whole_entries("frozen", self._frozen.items())
            state |= whole_entries("buffer", self.network.named_buffers())
        if rank == 0 or self._gather is not None:
            state |= entries("master", self.masters)
        return snapshot(STATE_FOLDER, rank, state, {})

    def load(self, folder: Path) -> None:
        """Read what `snapshot` wrote into a checkpoint, on any number of ranks.

        Collective where the ranks share the masters out.

        Raises:
            ValueError: it is not the state of this network.
        """
        state = FragmentReader(folder / STATE_FOLDER)
        buffers = dict(self.network.named_buffers())
        for kind, tensors in (
            ("master", self._followed),
            ("frozen", self._frozen),
            ("buffer", buffers),
        ):
            state.check(kind, {name: tensor.numel() for name, tensor in tensors.items()})
        for master in self.masters:
            state.fill("master", master)
        for name, buffer in buffers.items():
            buffer.copy_(state.tensor("buffer", name))
        parameters = dict(self.network.named_parameters())
        for name, weight in self._frozen.items():
            weight.copy_(state.tensor("frozen", name))
            parameters[name].detach().copy_(weight)
        with self._working_copies() as copies:
            if copies is not None:
                _copy(copies, self.masters)

    @contextmanager
    def _working_copies(self) -> Iterator[list[Tensor] | None]:
        """What to write each master into, for the network to have it afterwards.

        None where the masters are the network's own parameters.
        """
        if self._gather is None:
            copies = [self._followed[f.name].detach().view(-1) for f in self.masters]
            yield copies if self._mixed else None
            return
        some = next(iter(self._followed.values()))
        buffer, places = self._gather.outgoing(some.dtype, some.device)
        yield places
        if self._places is None:
            self._places = self._gather.places(self._followed)
        self._gather.to_all(buffer, self._places)

    def _own_masters(self) -> dict[str, Tensor]:
        """Masters by name as this rank has them, with room for those that are shared out."""
        if not self._mixed:  # the network has all of them
            return {name: parameter.detach() for name, parameter in self._followed.items()} | (
                self._frozen
            )
        if self._gather is not None:
            rooms = {n: torch.empty_like(p, dtype=torch.float32) for n, p in self._followed.items()}
            return rooms | self._frozen
        shapes = {name: parameter.shape for name, parameter in self._followed.items()}
        return {f.name: f.value.view(shapes[f.name]) for f in self.masters} | self._frozen

    def _filled(self, gather: Gather) -> Tensor:
        device = next(iter(self._followed.values())).device
        buffer, places = gather.outgoing(torch.float32, device)
        _copy(places, self.masters)
        return buffer


def _copy(places: Sequence[Tensor], masters: Sequence[Fragment]) -> None:
    for place, master in zip(places, masters, strict=True):
        place.copy_(master.value)


def _stretch(parameters: Mapping[str, Tensor], like: Fragment) -> Fragment:
    """The same stretch of another network, on its own."""
    flat = parameters[like.name].detach().view(-1)
    return Fragment(like.name, like.start, flat[like.start :][: like.value.numel()].clone())
