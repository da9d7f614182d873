"""Batch norm whose statistics stay in float32 when the weights are bfloat16."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class BatchNorm(nn.BatchNorm2d):
    """torch's, computed with float32 statistics, weight and bias, whatever the input's dtype.

    In bfloat16 a running mean stops following the batches, and torch refuses weights and
    statistics of two dtypes, which a target network has (only its parameters are cast).

    Source: Ioffe & Szegedy 2015, arXiv 1502.03167.
    """

    def forward(
        self,
        input: Float[Tensor, "batch channel height width"],  # noqa: A002
    ) -> Float[Tensor, "batch channel height width"]:
        """In training by the batch's statistics, which move the running ones; else by those."""
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight.float(),
            self.bias.float(),
            self.training,
            self._share_of_new(),
            self.eps,
        )

    def _share_of_new(self) -> float:
        """Weight of this batch in the running statistics; without a momentum, a plain mean."""
        if self.momentum is not None:
            return self.momentum
        return 1.0 / max(1, int(self.num_batches_tracked or 0))

    def _apply(self, fn: Callable, recurse: bool = True) -> "BatchNorm":
        super()._apply(fn, recurse)
        for name in ("running_mean", "running_var"):
            setattr(self, name, getattr(self, name).float())
        return self


def with_float32_statistics(module: nn.Module) -> None:
    """Put a `BatchNorm` in place of each of torch's, with the same weights and names."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            norm = BatchNorm(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict())
            setattr(module, name, norm)
        else:
            with_float32_statistics(child)
