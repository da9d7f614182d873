"""LARS, with the EMA or without, by a fused kernel and by plain torch in several ways."""

from collections.abc import Sequence

import torch
from kernels_operation import FUSED, Operation

from pretrain.kernels import LarsEma, LarsTable, Layers, lars, lars_numbers

RATE, DECAY, TAU, MOMENTUM, ETA = 0.2, 1e-6, 0.996, 0.9, 1e-3


def lars_operation(
    name: str, sizes: Sequence[int], low: torch.dtype | None, device: str
) -> Operation:
    """A step of layers of some sizes.

    With a low dtype gradients have it, and the EMA and copies of both in it are made too.
    Parameters and gradients are needed twice: a layer's norms come before its first entry's step.
    torch.compile is not among the candidates: it unrolls the layers, which takes a minute for 30.
    """

    def tensors(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
        return [torch.randn(size, device=device).to(dtype) for size in sizes]

    layers = Layers(
        parameters=tensors(),
        gradients=tensors(low or torch.float32),
        velocities=tensors(),
        targets=tensors() if low else None,
        parameter_copies=tensors(low) if low else None,
        target_copies=tensors(low) if low else None,
    )
    numbers = LarsEma(
        changing=torch.tensor(lars_numbers(RATE, DECAY, TAU), device=device),
        momentum=MOMENTUM,
        trust_coefficient=ETA,
    )
    table = LarsTable()
    width = (4 + 4) + (8 + 4 + 8) if low is None else (4 + 2) + (8 + 2 + 8 + 8 + 2 * 2)
    return Operation(
        name=name,
        candidates={
            "eager": lambda: layer_by_layer(layers),
            "foreach": lambda: by_foreach(layers),
            FUSED: lambda: lars.fused_lars_ema_(layers, numbers, table),
        },
        needed_bytes=width * sum(sizes),
        tensors=len(sizes),
        entries=sum(sizes),
    )


def layer_by_layer(layers: Layers) -> None:
    """As every public LARS has it, without waiting for a norm; then the EMA and the copies."""
    for index, parameter in enumerate(layers.parameters):
        gradient = layers.gradients[index].float()
        weight_norm, slope_norm = parameter.norm(), gradient.norm()
        ratio = ETA * weight_norm / (slope_norm + DECAY * weight_norm)
        trust = torch.where((weight_norm > 0.0) & (slope_norm > 0.0), ratio, 1.0)
        change = gradient.add(parameter, alpha=DECAY)
        change.mul_(RATE * trust)
        velocity = layers.velocities[index].mul_(MOMENTUM).add_(change)
        parameter.sub_(velocity)
        if layers.targets is not None:
            target = layers.targets[index].lerp_(parameter, 1.0 - TAU)
            if layers.parameter_copies is not None and layers.target_copies is not None:
                layers.parameter_copies[index].copy_(parameter)
                layers.target_copies[index].copy_(target)


def by_foreach(layers: Layers) -> None:
    """The same in few launches, with numbers that the host knows: another step has others."""
    parameters, velocities = list(layers.parameters), list(layers.velocities)
    gradients = [gradient.float() for gradient in layers.gradients]
    changes = torch._foreach_add(gradients, parameters, alpha=DECAY)
    weight_norms = torch._foreach_norm(parameters)
    divisors = torch._foreach_add(torch._foreach_norm(gradients), weight_norms, alpha=DECAY)
    rates = torch._foreach_div(weight_norms, divisors)
    torch._foreach_mul_(rates, RATE * ETA)
    torch._foreach_mul_(changes, rates)
    torch._foreach_mul_(velocities, MOMENTUM)
    torch._foreach_add_(velocities, changes)
    torch._foreach_sub_(parameters, velocities)
    if layers.targets is not None:
        torch._foreach_lerp_(list(layers.targets), parameters, 1.0 - TAU)
        if layers.parameter_copies is not None and layers.target_copies is not None:
            torch._foreach_copy_(list(layers.parameter_copies), parameters)
            torch._foreach_copy_(list(layers.target_copies), list(layers.targets))
