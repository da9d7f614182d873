"""The plain twin of each kernel: its specification, and the path taken on a CPU."""

# torch has no public name for its foreach operations; its own optimizers use them.
# pyright: reportPrivateImportUsage=false

from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor

from pretrain.kernels.layers import LarsEma, Layers
from pretrain.kernels.partition import AdamwEma, FlatPartition


def ema_update_(
    targets: Sequence[Tensor],
    onlines: Sequence[Tensor],
    tau: float,
    copies: Sequence[Tensor] | None = None,
    distance: Float32[Tensor, ""] | None = None,
) -> None:
    """``target <- target + (1 - tau) (online - target)``; then ``copy <- target``, rounded.

    Source: Grill et al. 2020, arXiv 2006.07733, equation 1.

    Args:
        targets: float32 masters, updated in place.
        onlines: Tensors of the same shapes, float32 or bfloat16.
        tau: Share of the old target kept, in [0, 1].
        copies: Working copies of the same shapes in any float type, overwritten.
        distance: Overwritten with the squared distance of the online weights from the targets
            as they were, over all tensors.
    """
    sources = [online.to(torch.float32) for online in onlines]
    if distance is not None:
        gaps = torch._foreach_sub(sources, list(targets))
        distance.copy_(torch.stack(torch._foreach_norm(gaps)).square().sum())
    torch._foreach_lerp_(list(targets), sources, 1.0 - tau)
    if copies is not None:
        torch._foreach_copy_(list(copies), list(targets))


def adamw_ema_(partition: FlatPartition, numbers: AdamwEma) -> None:
    """A step of AdamW on a flat partition, then the EMA of the parameters it gave.

    ``m <- m + (1 - b1) (g - m)``; ``v <- b2 v + (1 - b2) g^2``; with ``k`` the step
    ``p <- (1 - lr wd) p - lr / (1 - b1^k) m / (sqrt(v) / sqrt(1 - b2^k) + eps)``; then
    ``target <- target + (1 - tau) (p - target)``, and the copies, rounded.

    Source: Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2, as ``torch.optim.AdamW``
    computes it; Grill et al. 2020, equation 1.
    """
    gradient = partition.gradients.to(torch.float32)
    beta1, beta2 = numbers.betas
    partition.means.lerp_(gradient, 1.0 - beta1)
    partition.squares.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    root = partition.squares.sqrt().div_(numbers.root_correction).add_(numbers.eps)
    partition.parameters.mul_(numbers.keep)
    partition.parameters.addcdiv_(partition.means, root, value=-numbers.step_size)
    if partition.parameter_copies is not None:
        partition.parameter_copies.copy_(partition.parameters)
    if partition.targets is not None:
        partition.targets.lerp_(partition.parameters, 1.0 - numbers.tau)
    if partition.target_copies is not None and partition.targets is not None:
        partition.target_copies.copy_(partition.targets)


def lars_ema_(layers: Layers, numbers: LarsEma) -> None:
    """A step of LARS on each layer, then the EMA of the parameters it gave.

    ``trust = eta |p| / (|g| + wd |p|)``, or 1 where a norm is 0 or there is no ``eta``;
    ``v <- m v + lr trust (g + wd p)``; ``p <- p - v``; then ``target <- target + (1 - tau)
    (p - target)``, and the copies, rounded.

    Source: You et al. 2017, arXiv 1708.03888, algorithm 1; Grill et al. 2020, equation 1.
    """
    parameters, velocities = list(layers.parameters), list(layers.velocities)
    gradients = [gradient.to(parameters[0].dtype) for gradient in layers.gradients]
    changes = torch._foreach_add(gradients, parameters, alpha=numbers.weight_decay)
    torch._foreach_mul_(changes, _rates(parameters, gradients, numbers))
    torch._foreach_mul_(velocities, numbers.momentum)
    torch._foreach_add_(velocities, changes)
    torch._foreach_sub_(parameters, velocities)
    if layers.parameter_copies is not None:
        torch._foreach_copy_(list(layers.parameter_copies), parameters)
    if layers.targets is not None:
        torch._foreach_lerp_(list(layers.targets), parameters, 1.0 - numbers.tau)
        if layers.target_copies is not None:
            torch._foreach_copy_(list(layers.target_copies), list(layers.targets))


def _rates(
    parameters: list[Tensor], gradients: list[Tensor], numbers: LarsEma
) -> list[Tensor] | list[float]:
    """``lr trust`` of each layer."""
    eta = numbers.trust_coefficient
    if eta is None:
        return [numbers.learning_rate] * len(parameters)
    rates = []
    norms = zip(torch._foreach_norm(parameters), torch._foreach_norm(gradients), strict=True)
    for weight, gradient in norms:
        ratio = eta * weight / (gradient + numbers.weight_decay * weight)
        trust = torch.where((weight > 0.0) & (gradient > 0.0), ratio, 1.0)
        rates.append(numbers.learning_rate * trust)
    return rates
