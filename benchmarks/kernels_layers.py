"""Cases of the LARS kernel: layers of many sizes, against the paper's equations in float64."""

from collections.abc import Iterator, Sequence
from unittest.mock import patch

import torch
from kernels_compared import Compared, compare, unchanged
from torch import Tensor

from pretrain.kernels import (
    Kernels,
    LarsEma,
    LarsTable,
    Layers,
    lars,
    lars_numbers,
    reference,
    using,
)
from pretrain.optim.lars import Lars

GUARD = 8
"""Entries between two layers, which nobody may write to; every third layer is not aligned."""
MOMENTUM, ETA = 0.9, 0.02
Storage = dict[str, Tensor]


def storage(
    sizes: Sequence[int], gradient_dtype: torch.dtype, copy_dtype: torch.dtype | None, device: str
) -> tuple[Storage, list[int]]:
    """One flat tensor of each kind and the layers' starts; the first two layers are special.

    The first has zero weights, the second a zero gradient.
    """
    torch.manual_seed(0)
    starts = [0]
    for number, size in enumerate(sizes):
        starts.append(starts[-1] + size + (-size) % GUARD + GUARD + (number % 3 == 2))
    parameters, gradients, velocities, targets = torch.randn(4, starts[-1], device=device).unbind()
    parameters[: starts[1]] = 0.0
    gradients[starts[1] : starts[2]] = 0.0
    found = {
        "parameters": parameters.clone(),
        "gradients": (0.1 * gradients).to(gradient_dtype),
        "velocities": 0.1 * velocities,
    }
    if copy_dtype is not None:
        found["targets"] = targets.clone()
        for name in ("parameter_copies", "target_copies"):
            found[name] = torch.zeros_like(targets, dtype=copy_dtype)
    return found, starts


def layers_of(flat: Storage, starts: Sequence[int], sizes: Sequence[int]) -> Layers:
    """Each layer in the memory of the flat tensors."""
    return Layers(
        **{
            name: [tensor[start:][:size] for start, size in zip(starts, sizes, strict=False)]
            for name, tensor in flat.items()
        }
    )


def exact_step(layers: Layers, changing: tuple[float, float, float], adapts: bool) -> None:
    """Layer by layer, in the tensors' own dtype.

    Args:
        layers: Updated in place.
        changing: `lars_numbers`.
        adapts: Whether each layer has a rate of its own.
    """
    learning_rate, weight_decay, ema_weight = changing
    for index, parameter in enumerate(layers.parameters):
        gradient, velocity = layers.gradients[index], layers.velocities[index]
        trust = 1.0
        weight_norm, slope_norm = parameter.norm(), gradient.norm()
        if adapts and weight_norm > 0 and slope_norm > 0:
            trust = ETA * weight_norm
            trust /= slope_norm + weight_decay * weight_norm
        slope = gradient + weight_decay * parameter
        velocity.copy_(MOMENTUM * velocity + learning_rate * trust * slope)
        parameter -= velocity
        if layers.targets is not None:
            target = layers.targets[index]
            target.copy_((1.0 - ema_weight) * target + ema_weight * parameter)
            if layers.parameter_copies is not None and layers.target_copies is not None:
                layers.parameter_copies[index].copy_(parameter)
                layers.target_copies[index].copy_(target)


def layers_case(
    sizes: Sequence[int],
    dtypes: tuple[torch.dtype, torch.dtype | None],
    adapts: bool,
    device: str,
) -> Iterator[Compared]:
    """Two steps of layers; gradients and copies of two dtypes; what lies between layers stays."""
    start, starts = storage(sizes, *dtypes, device)
    decay = 0.1 if adapts else 0.0
    steps = (lars_numbers(0.3, decay, 0.9), lars_numbers(0.1, decay, 0.99))

    def twice(fused: bool) -> Storage:
        flat, table = {name: tensor.clone() for name, tensor in start.items()}, LarsTable()
        layers = layers_of(flat, starts, sizes)
        for changing in steps:
            step = LarsEma(
                changing=torch.tensor(changing, device=device),
                momentum=MOMENTUM,
                trust_coefficient=ETA if adapts else None,
            )
            if fused:
                lars.fused_lars_ema_(layers, step, table)
            else:
                reference.lars_ema_(layers, step)
        return flat

    exact = {name: tensor.double() for name, tensor in start.items()}
    layers = layers_of(exact, starts, sizes)
    for changing in steps:
        exact_step(layers, changing, adapts)
    given = " and ".join(str(dtype or "no copies").removeprefix("torch.") for dtype in dtypes)
    name = f"LARS + EMA of {given}, {'one rate a layer' if adapts else 'one rate'}"
    first = twice(True)
    del exact["gradients"]
    yield from compare(name, first, twice(False), exact)
    yield unchanged(name, first, twice(True))


def many_parts_case(device: str, part: int, summed: int = lars.SUMMED_PARTS) -> Iterator[Compared]:
    """A layer of more parts of ``part`` entries than are added up at once, which are ``summed``."""
    sizes, block = [40, 7, (summed + 1) * part + 11], min(part, lars.NORMS_BLOCK)
    with patch.multiple(lars, PART=part, NORMS_BLOCK=block, SUMMED_PARTS=summed):
        yield from layers_case(sizes, (torch.float32, torch.float32), True, device)


def optimizer_case(device: str) -> Iterator[Compared]:
    """Two steps of `Lars` over its three kinds of groups; in one each row is a layer."""
    kinds = {"decays": (True, False), "vectors": (False, False), "stacked": (True, True)}
    shapes = {"decays": [(5, 7), (40, 9)], "vectors": [(33,), (6, 2)], "stacked": [(3, 4, 5)]}
    torch.manual_seed(0)
    start = {kind: [torch.randn(2, *shape) for shape in shapes[kind]] for kind in kinds}

    def stepped(kernels: Kernels, dtype: torch.dtype) -> dict[str, Tensor]:
        weights = {
            kind: [torch.nn.Parameter(pair[0].to(device, dtype, copy=True)) for pair in pairs]
            for kind, pairs in start.items()
        }
        groups = [
            {"params": weights[kind], "decays": decays, "stacked": stacked, "weight_decay": 0.1}
            for kind, (decays, stacked) in kinds.items()
        ]
        optimizer = Lars(groups, lr=0.3, trust_coefficient=0.02)
        with using(kernels):
            for factor in (1.0, -0.5):
                for kind, pairs in start.items():
                    for weight, pair in zip(weights[kind], pairs, strict=True):
                        weight.grad = factor * pair[1].to(device, dtype)
                optimizer.step()
        return {
            f"{kind} {index}": weight.detach()
            for kind, found in weights.items()
            for index, weight in enumerate(found)
        }

    exact = stepped("reference", torch.float64)
    ours, plain = (stepped(kernels, torch.float32) for kernels in ("fused", "reference"))
    yield from compare("LARS by its optimizer", ours, plain, exact)


def layers_cases(device: str, large: bool) -> Iterator[Compared]:
    """Sizes about a block's and a part's; under the interpreter parts are smaller and fewer.

    The third layer is the last that is aligned: whole blocks of it are read without a mask.
    """
    part = lars.PART if large else 2 * lars.NORMS_BLOCK
    sizes = [40, 7, part + 3, 1, lars.BLOCK - 1, lars.BLOCK, lars.NORMS_BLOCK + 5]
    half, wide = torch.bfloat16, torch.float32
    with patch.object(lars, "PART", part):
        yield from layers_case(sizes, (wide, None), True, device)
        yield from layers_case(sizes, (half, half), True, device)
        yield from layers_case(sizes, (wide, half), False, device)
    if large:
        yield from many_parts_case(device, lars.PART)
    else:
        yield from many_parts_case(device, 16, summed=8)
    yield from optimizer_case(device)
