"""Layer-wise adaptive rates for large batches."""

# torch has its foreach operations but does not list them.
# pyright: reportPrivateImportUsage=false
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pretrain.optim.groups import weights_and_gradients


class Lars(torch.optim.Optimizer):
    """Momentum SGD whose every layer has a rate of its own.

    For a layer with weights w and gradient g, learning rate ``lr``, momentum m and decay beta::

        trust = eta |w| / (|g| + beta |w|)
        v <- m v + lr trust (g + beta w)
        w <- w - v

    Groups with ``decays`` False (biases, norms) have trust 1 and no decay; so has a layer while
    its weights or its gradient are all zero (trust 1). In groups with ``stacked`` True each entry
    along a tensor's first axis is a layer.

    It needs whole layers, so it is wrong on ZeRO's flat partitions. It was made for convolutional
    networks; ViTs are known to collapse under it.

    Source: You et al. 2017, arXiv 1708.03888, algorithm 1; exclusions as in Grill et al. 2020,
    arXiv 2006.07733, section 3.3. DeepMind's code differs in keeping ``lr`` outside v and in
    |g + beta w| for the denominator.

    Args:
        groups: From `parameter_groups`.
        lr: Learning rate until it is set.
        momentum: m, in [0, 1).
        weight_decay: beta.
        trust_coefficient: eta.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "decays": True,
            "stacked": False,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply one step to every parameter that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            weights, gradients = weights_and_gradients(group)
            if weights:
                velocities = [self._velocity(p) for p in weights]
                torch._foreach_mul_(velocities, group["momentum"])
                torch._foreach_add_(velocities, _changes(group, weights, gradients))
                torch._foreach_sub_(weights, velocities)

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter)
        return state["velocity"]


def _changes(
    group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]
) -> tuple[Tensor, ...]:
    """``lr trust (g + beta w)`` of each parameter."""
    if not group["decays"]:
        return torch._foreach_mul(gradients, group["lr"])
    norms = _stacked_norms if group["stacked"] else _norms
    pairs = zip(norms(weights), norms(gradients), strict=True)
    rates = [group["lr"] * _trust(group, w, g) for w, g in pairs]
    changes = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
    torch._foreach_mul_(changes, rates)
    return changes


def _norms(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Norm of each tensor."""
    return torch._foreach_norm(tensors)


def _stacked_norms(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """Norm of each entry along each tensor's first axis, shaped to be multiplied with it."""
    return tuple(
        torch.linalg.vector_norm(t, dim=tuple(range(1, t.ndim)), keepdim=True) for t in tensors
    )


def _trust(group: dict[str, Any], weight_norm: Tensor, gradient_norm: Tensor) -> Tensor:
    ratio = weight_norm / (gradient_norm + group["weight_decay"] * weight_norm)
    usable = (weight_norm > 0.0) & (gradient_norm > 0.0)
    return torch.where(usable, group["trust_coefficient"] * ratio, 1.0)
