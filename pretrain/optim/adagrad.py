"""Adagrad, as a class of its own because DeepSpeed rebuilds torch's without its groups."""

# torch has its foreach operations but does not list them.
# pyright: reportPrivateImportUsage=false
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pretrain.optim.groups import weights_and_gradients


class Adagrad(torch.optim.Optimizer):
    """Per-weight rates that fall with the gradients seen.

    With gradient g, decay beta and learning rate ``lr``::

        g <- g + beta w
        s <- s + g^2
        w <- w - lr g / (sqrt(s) + eps)

    Under ZeRO, DeepSpeed replaces `torch.optim.Adagrad` by one with a single group over all
    partitions, which drops each group's rate and decay and fails at the second group's step.

    Source: Duchi et al. 2011, Journal of Machine Learning Research 12, figure 1, diagonal case.

    Args:
        groups: From `parameter_groups`.
        lr: Learning rate until it is set.
        weight_decay: beta.
        eps: Keeps the divisor from 0.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply one step to every parameter that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            weights, gradients = weights_and_gradients(group)
            if not weights:
                continue
            gradients = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
            sums = [self._sum(p) for p in weights]
            torch._foreach_addcmul_(sums, gradients, gradients)
            divisors = torch._foreach_sqrt(sums)
            torch._foreach_add_(divisors, group["eps"])
            torch._foreach_addcdiv_(weights, gradients, divisors, value=-group["lr"])

    def _sum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "sum" not in state:
            state["sum"] = torch.zeros_like(parameter)
        return state["sum"]
