"""What `kernels_timed` times: operations by a fused kernel and by plain torch in several ways."""

from collections.abc import Callable, Sequence

import torch
from kernels_candidates_layers import lars_operation
from kernels_candidates_pictures import pictures_operation
from kernels_operation import COMPILED, FUSED, Operation, Run, Sizes
from torch import Tensor

from pretrain import loss
from pretrain.kernels import (
    AdamwEma,
    FlatPartition,
    TensorTable,
    adamw,
    adamw_numbers,
    ema,
    ema_numbers,
)
from pretrain.kernels.loss import fused_weighted_loss

TAU = 0.996
RATE, BETAS, EPS, DECAY, STEP = 1e-4, (0.9, 0.95), 1e-8, 0.05, 10
"""Of AdamW."""


def vit_sizes(width: int, layers: int) -> list[int]:
    """Entries of the tensors of a ViT with patches of 16 pixels: many are small."""
    block = [3 * width * width, 3 * width, width * width, width]
    block += [4 * width * width, 4 * width, 4 * width * width, width, *[width] * 4]
    return [768 * width, width, 197 * width, width, *block * layers, width, width]


def ema_operation(
    name: str,
    sizes: Sequence[int],
    online_dtype: torch.dtype,
    copy_dtype: torch.dtype | None,
    device: str,
) -> Operation:
    """The EMA over tensors of some sizes, with copies of a type or none."""
    targets = [torch.randn(size, device=device) for size in sizes]
    onlines = [torch.randn(size, device=device).to(online_dtype) for size in sizes]
    copies = None if copy_dtype is None else [t.to(copy_dtype) for t in targets]
    table, weight = TensorTable(), torch.tensor(ema_numbers(TAU), device=device)

    def eager() -> None:
        for index, (target, online) in enumerate(zip(targets, onlines, strict=True)):
            target.lerp_(online.float(), 1.0 - TAU)
            if copies is not None:
                copies[index].copy_(target)

    def foreach() -> None:
        if online_dtype == torch.float32:
            torch._foreach_lerp_(targets, onlines, 1.0 - TAU)
        else:  # which the lerp refuses
            torch._foreach_mul_(targets, TAU)
            torch._foreach_add_(targets, onlines, alpha=1.0 - TAU)
        if copies is not None:
            torch._foreach_copy_(copies, targets)

    compiled = torch.compile(foreach, dynamic=False)  # which makes one kernel of the lists
    width = 8 + onlines[0].element_size() + (copies[0].element_size() if copies else 0)
    return Operation(
        name=name,
        candidates={
            "eager": eager,
            "foreach": foreach,
            COMPILED: compiled,
            FUSED: lambda: ema.fused_ema_update_(targets, onlines, weight, copies, table=table),
        },
        needed_bytes=width * sum(sizes),
        tensors=len(sizes),
        entries=sum(sizes),
    )


def adamw_operation(name: str, size: int, gradient_dtype: torch.dtype, device: str) -> Operation:
    """A step of AdamW on a flat partition, the EMA, and copies of both in bfloat16."""

    def rows() -> Tensor:
        return torch.randn(size, device=device)

    flat = FlatPartition(
        parameters=rows(),
        gradients=rows().to(gradient_dtype),
        means=rows(),
        squares=rows().square(),
        targets=rows(),
        parameter_copies=rows().bfloat16(),
        target_copies=rows().bfloat16(),
    )
    compiled = torch.compile(_adamw_ema, dynamic=False)
    changing = torch.tensor(adamw_numbers(RATE, BETAS, DECAY, STEP, TAU), device=device)
    numbers = AdamwEma(changing=changing, betas=BETAS, eps=EPS)
    weight = torch.nn.Parameter(flat.parameters)  # the same memory
    fused, foreach = (_follows_torch(weight, flat, kind) for kind in ("fused", "foreach"))
    return Operation(
        name=name,
        candidates={
            "eager": lambda: _adamw_ema(*vars(flat).values()),
            "foreach": foreach,
            "torch's fused": fused,
            COMPILED: lambda: compiled(*vars(flat).values()),
            FUSED: lambda: adamw.fused_adamw_ema_(flat, numbers),
        },
        needed_bytes=(8 * 4 + flat.gradients.element_size() + 2 * 2) * size,
        tensors=1,
        entries=size,
    )


def _follows_torch(weight: torch.nn.Parameter, flat: FlatPartition, kind: str) -> Run:
    """torch.optim.AdamW, and the rest in passes of its own; moments are shared with ``flat``."""
    options = {"fused": kind == "fused", "foreach": kind == "foreach"}
    optimizer = torch.optim.AdamW(
        [weight],
        lr=RATE,
        betas=BETAS,
        eps=EPS,
        weight_decay=DECAY,
        **options,
    )
    step = torch.tensor(float(STEP), device=weight.device if kind == "fused" else "cpu")
    optimizer.state[weight] = {"step": step, "exp_avg": flat.means, "exp_avg_sq": flat.squares}
    targets, copies = flat.targets, (flat.parameter_copies, flat.target_copies)
    assert targets is not None
    assert copies[0] is not None
    assert copies[1] is not None
    if flat.gradients.dtype == torch.float32:
        weight.grad = flat.gradients

    def run() -> None:
        if flat.gradients.dtype != torch.float32:  # which it refuses
            weight.grad = flat.gradients.float()
        optimizer.step()
        copies[0].copy_(weight.detach())
        targets.lerp_(weight.detach(), 1.0 - TAU)
        copies[1].copy_(targets)

    return run


def _adamw_ema(
    parameters: Tensor,
    gradients: Tensor,
    means: Tensor,
    squares: Tensor,
    targets: Tensor,
    parameter_copies: Tensor,
    target_copies: Tensor,
) -> None:
    """With the step's numbers as constants: faster than a real run, which has others each time."""
    keep, step_size, root_scale, weight = adamw_numbers(RATE, BETAS, DECAY, STEP, TAU)
    gradient = gradients.float()
    means.lerp_(gradient, 1.0 - BETAS[0])
    squares.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1.0 - BETAS[1])
    root = squares.sqrt() * root_scale + EPS
    parameters.mul_(keep).addcdiv_(means, root, value=-step_size)
    parameter_copies.copy_(parameters)
    targets.lerp_(parameters, weight)
    target_copies.copy_(targets)


def loss_operation(shape: tuple[int, int, int, int], dtype: torch.dtype, device: str) -> Operation:
    """The weighted loss of all pairs and its gradient."""
    predictions = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    projections = torch.randn(shape, device=device, dtype=dtype)
    rows = torch.full((shape[0], shape[2]), 1 / shape[2], device=device)
    weights, one = torch.ones(shape[0], device=device), torch.ones((), device=device)
    compiled = torch.compile(loss.plain_weighted_loss, dynamic=False)

    def passes(weighted: Callable[..., tuple[Tensor, Tensor]], *more: float) -> Run:
        def run() -> None:
            total, _ = weighted(predictions, projections, rows, weights, *more)
            torch.autograd.grad(total, predictions, one)

        return run

    return Operation(
        name=f"loss {'x'.join(map(str, shape))} {str(dtype).removeprefix('torch.')}",
        candidates={
            "eager": passes(loss.plain_weighted_loss),
            COMPILED: passes(compiled),
            FUSED: passes(fused_weighted_loss, loss.EPS),
        },
        needed_bytes=3 * predictions.nbytes,
        tensors=1,
        entries=predictions.numel(),
    )


def operations(device: str, sizes: Sizes) -> list[Callable[[], Operation]]:
    """All of them; made one after the other, as they fill the memory."""
    many, single = vit_sizes(sizes.width, sizes.layers), [sizes.flat]
    wide, half, rows = torch.float32, torch.bfloat16, (10, 2, sizes.batch, sizes.embed)
    adamw_half = "AdamW + EMA, flat, bfloat16 gradients"
    return [
        lambda: ema_operation("EMA, many tensors, mixed types", many, half, half, device),
        lambda: ema_operation("EMA, many tensors, float32", many, wide, None, device),
        lambda: ema_operation("EMA, flat, mixed types", single, half, half, device),
        lambda: ema_operation("EMA, flat, float32", single, wide, None, device),
        lambda: adamw_operation("AdamW + EMA, flat", sizes.flat, wide, device),
        lambda: adamw_operation(adamw_half, sizes.flat, half, device),
        lambda: loss_operation(rows, half, device),
        lambda: loss_operation(rows, wide, device),
        lambda: pictures_operation(half, sizes, device),
        lambda: pictures_operation(wide, sizes, device),
        lambda: lars_operation("LARS + EMA, many tensors, mixed types", many, half, device),
        lambda: lars_operation("LARS, many tensors, float32", many, None, device),
    ]
