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
    weight: Float32[Tensor, " 1"],
    copies: Sequence[Tensor] | None = None,
    distance: Float32[Tensor, ""] | None = None,
) -> None:
    """``target <- target + weight (online - target)``; then ``copy <- target``, rounded.

    Source: Grill et al. 2020, arXiv 2006.07733, equation 1.

    Args:
        targets: float32 masters, updated in place.
        onlines: Tensors of the same shapes, float32 or bfloat16.
        weight: `numbers.ema_numbers`, 1 - tau.
        copies: Working copies of the same shapes in any float type, overwritten.
        distance: Overwritten with the squared distance of the online weights from the targets
            as they were, over all tensors.
    """
    sources = [online.to(torch.float32) for online in onlines]
    if distance is not None:
        gaps = torch._foreach_sub(sources, list(targets))
        distance.copy_(torch.stack(torch._foreach_norm(gaps)).square().sum())
    _lerp_(targets, sources, weight[0])
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
    keep, step_size, root_scale, weight = numbers.changing.unbind()
    partition.means.lerp_(gradient, 1.0 - beta1)
    partition.squares.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    root = partition.squares.sqrt().mul_(root_scale).add_(numbers.eps)
    partition.parameters.mul_(keep).addcdiv_(step_size * partition.means, root, value=-1.0)
    if partition.parameter_copies is not None:
        partition.parameter_copies.copy_(partition.parameters)
    if partition.targets is not None:
        partition.targets.lerp_(partition.parameters, weight)
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
    learning_rate, weight_decay, weight = numbers.changing.unbind()
    decays = [weight_decay.expand_as(parameter) for parameter in parameters]
    changes = torch._foreach_addcmul(gradients, parameters, decays)
    if numbers.trust_coefficient is None:
        torch._foreach_mul_(changes, learning_rate)
    else:
        shares = _trust(parameters, gradients, weight_decay, numbers.trust_coefficient)
        torch._foreach_mul_(changes, [learning_rate * share for share in shares])
    torch._foreach_mul_(velocities, numbers.momentum)
    torch._foreach_add_(velocities, changes)
    torch._foreach_sub_(parameters, velocities)
    if layers.parameter_copies is not None:
        torch._foreach_copy_(list(layers.parameter_copies), parameters)
    if layers.targets is not None:
        _lerp_(layers.targets, parameters, weight)
        if layers.target_copies is not None:
            torch._foreach_copy_(list(layers.target_copies), list(layers.targets))


def _lerp_(targets: Sequence[Tensor], sources: Sequence[Tensor], weight: Tensor) -> None:
    """On a GPU a launch for each tensor: foreach is one only for a weight that the host knows."""
    torch._foreach_lerp_(list(targets), list(sources), [weight.expand_as(t) for t in targets])


def _trust(
    parameters: list[Tensor], gradients: list[Tensor], weight_decay: Tensor, eta: float
) -> list[Tensor]:
    """Each layer's share of the learning rate."""
    shares = []
    norms = zip(torch._foreach_norm(parameters), torch._foreach_norm(gradients), strict=True)
    for weight, gradient in norms:
        ratio = eta * weight / (gradient + weight_decay * weight)
        shares.append(torch.where((weight > 0.0) & (gradient > 0.0), ratio, 1.0))
    return shares
