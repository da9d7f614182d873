"""Layer-wise adaptive rates for large batches."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pretrain.kernels import LarsEma, LarsTable, Layers, StepNumbers, lars_ema_, lars_numbers
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

    On a GPU a group takes two launches, or one without rates of its own, and a copy of its numbers.

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
        self._tables: defaultdict[int, LarsTable] = defaultdict(LarsTable)
        self._changing: dict[int, StepNumbers] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply one step to every parameter that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for number, group in enumerate(self.param_groups):
            weights, gradients = weights_and_gradients(group)
            if not weights:
                continue
            velocities = [self._velocity(p) for p in weights]
            layers = Layers(
                parameters=_layers(group, weights),
                gradients=_layers(group, gradients),
                velocities=_layers(group, velocities),
            )
            lars_ema_(layers, self._numbers(number, weights[0]), self._tables[number])

    def _numbers(self, number: int, like: Tensor) -> LarsEma:
        """Of a group, where its layers live."""
        group = self.param_groups[number]
        if number not in self._changing:
            self._changing[number] = StepNumbers(3, like)
        decay = group["weight_decay"] if group["decays"] else 0.0
        return LarsEma(
            changing=self._changing[number].set(lars_numbers(group["lr"], decay)),
            momentum=group["momentum"],
            trust_coefficient=group["trust_coefficient"] if group["decays"] else None,
        )

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter)
        return state["velocity"]


def _layers(group: dict[str, Any], tensors: list[Tensor]) -> list[Tensor]:
    """Each tensor, or where it is several layers in one each of them, in the same memory."""
    if not group["stacked"]:
        return tensors
    return [layer for tensor in tensors for layer in tensor.unbind()]
