"""LARS, with the EMA or without, by a fused kernel and by plain torch in several ways."""

from collections.abc import Sequence

import torch
from kernels_operation import FUSED, Operation

from pretrain.kernels import LarsEma, LarsTable, Layers, lars, reference

NUMBERS = LarsEma(
    learning_rate=0.2, momentum=0.9, weight_decay=1e-6, trust_coefficient=1e-3, tau=0.996
)


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
    table = LarsTable()
    width = (4 + 4) + (8 + 4 + 8) if low is None else (4 + 2) + (8 + 2 + 8 + 8 + 2 * 2)
    return Operation(
        name=name,
        candidates={
            "eager": lambda: layer_by_layer(layers, NUMBERS),
            "foreach": lambda: reference.lars_ema_(layers, NUMBERS),
            FUSED: lambda: lars.fused_lars_ema_(layers, NUMBERS, table),
        },
        needed_bytes=width * sum(sizes),
        tensors=len(sizes),
        entries=sum(sizes),
    )


def layer_by_layer(layers: Layers, numbers: LarsEma) -> None:
    """As every public LARS has it, without waiting for a norm; then the EMA and the copies."""
    eta = numbers.trust_coefficient
    assert eta is not None
    for index, parameter in enumerate(layers.parameters):
        gradient = layers.gradients[index].float()
        weight_norm, slope_norm = parameter.norm(), gradient.norm()
        ratio = eta * weight_norm / (slope_norm + numbers.weight_decay * weight_norm)
        trust = torch.where((weight_norm > 0.0) & (slope_norm > 0.0), ratio, 1.0)
        change = gradient.add(parameter, alpha=numbers.weight_decay)
        change.mul_(numbers.learning_rate * trust)
        velocity = layers.velocities[index].mul_(numbers.momentum).add_(change)
        parameter.sub_(velocity)
        if layers.targets is not None:
            target = layers.targets[index].lerp_(parameter, 1.0 - numbers.tau)
            if layers.parameter_copies is not None and layers.target_copies is not None:
                layers.parameter_copies[index].copy_(parameter)
                layers.target_copies[index].copy_(target)
