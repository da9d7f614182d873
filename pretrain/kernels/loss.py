"""The loss of all directed pairs and its gradient in one pass over the rows.

Two launches a step: the forward one writes the losses and the gradient, the backward one scales
the gradient in place, or returns at once where it has nothing to scale by. What
`pretrain.loss` says in plain torch takes some thirty launches, and in bfloat16 keeps four times
the memory for the backward pass.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

TILE = 1024
"""Entries of a view that a program handles: eight a thread, 16 bytes a load in bfloat16."""
SCALE_BLOCK = 4096
"""Entries of the gradient that a program of the backward pass scales."""
SUMMED_PARTS = 128
"""Partial sums of each pair that are added up at once."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_finished: dict[tuple[torch.device, int], Tensor] = {}
"""Programs that are done, by device and stream; 0 between launches."""


def fused_all_pairs_loss(
    predictions: Float[Tensor, "pair view batch embed"],
    projections: Float[Tensor, "pair view batch embed"],
    row_weights: Float[Tensor, "pair batch"],
    eps: float,
) -> Float[Tensor, " pair"]:
    """`pretrain.loss.all_pairs_loss` by a kernel, in float32; the losses are float32.

    Differentiable in the predictions alone, once: the backward pass scales the gradient of the
    forward one in place.

    Raises:
        ValueError: the tensors have another dtype than float32, bfloat16 or float16, hold no
            rows, or a gradient is asked for of something else than the predictions.
    """
    _check(predictions, projections, row_weights)
    return _Losses.apply(predictions, projections, row_weights, eps)  # pyright: ignore[reportReturnType]


def fused_weighted_loss(
    predictions: Float[Tensor, "pair view batch embed"],
    projections: Float[Tensor, "pair view batch embed"],
    row_weights: Float[Tensor, "pair batch"],
    pair_weights: Float[Tensor, " pair"],
    eps: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, " pair"]]:
    """`pretrain.loss.weighted_loss` by a kernel: the weighted sum, and the pairs' losses.

    As the weights are known, the gradient of the forward launch is the whole one: a backward
    pass that comes with a factor of 1 goes over no memory. Otherwise like
    `fused_all_pairs_loss`; the pairs' losses have no gradient.
    """
    _check(predictions, projections, row_weights, pair_weights)
    return _WeightedLoss.apply(predictions, projections, row_weights, pair_weights, eps)  # pyright: ignore[reportReturnType]


class _Losses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        predictions: Tensor,
        projections: Tensor,
        row_weights: Tensor,
        eps: float,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        losses, _, gradient = _launch(predictions, projections, row_weights, None, eps, wanted)
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        [gradient] = ctx.saved_tensors
        return _scaled(gradient, grad_losses.contiguous()), None, None, None


class _WeightedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        predictions: Tensor,
        projections: Tensor,
        row_weights: Tensor,
        pair_weights: Tensor,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        losses, total, gradient = _launch(
            predictions, projections, row_weights, pair_weights, eps, wanted
        )
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(losses)
        ctx.set_materialize_grads(False)  # zeros for the losses would be a launch
        return total, losses

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_total: Tensor,
        _: Tensor,
    ) -> tuple[Tensor, None, None, None, None]:
        [gradient] = ctx.saved_tensors
        return _scaled(gradient, grad_total), None, None, None, None


def _launch(
    predictions: Tensor,
    projections: Tensor,
    row_weights: Tensor,
    pair_weights: Tensor | None,
    eps: float,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Losses by pair, their weighted sum (of no meaning without weights), and the gradient."""
    from pretrain.kernels import _loss_triton

    kernel: Any = _loss_triton.loss_kernel  # its arguments are pointers, not tensors, to a checker
    num_pairs, _, batch, embed = predictions.shape
    predictions, projections = predictions.contiguous(), projections.contiguous()
    row_weights = row_weights.contiguous()
    width = _power_of_two(embed)
    rows = max(1, min(TILE // width, _power_of_two(batch)))
    num_parts = -(-batch // rows)
    sums = predictions.new_empty(num_pairs + 1, dtype=torch.float32)
    losses, total = sums[:num_pairs], sums[num_pairs]
    gradient = torch.empty_like(predictions) if with_gradient else None
    kernel[num_parts, num_pairs](
        predictions,
        projections,
        row_weights,
        row_weights if pair_weights is None else pair_weights.contiguous(),
        predictions if gradient is None else gradient,
        sums.new_empty(num_pairs * num_parts),
        _counter(predictions.device),
        losses,
        total,
        num_pairs,
        batch,
        embed,
        eps,
        HAS_GRADIENT=with_gradient,
        HAS_PAIR_WEIGHTS=pair_weights is not None,
        ROWS=rows,
        EMBED=width,
        PAIRS=_power_of_two(num_pairs),
        PARTS=min(SUMMED_PARTS, _power_of_two(num_parts)),
        LOOPS=-(-num_parts // SUMMED_PARTS),
    )
    return losses, total, gradient


def _scaled(gradient: Tensor, scales: Tensor) -> Tensor:
    """The gradient times its pair's scale, or one scale for all; in its own memory."""
    from pretrain.kernels import _loss_triton

    kernel: Any = _loss_triton.scale_kernel
    num_pairs, numel = gradient.shape[0], gradient[0].numel()
    stride = 1 if scales.ndim else 0
    kernel[-(-numel // SCALE_BLOCK), num_pairs](gradient, scales, stride, numel, BLOCK=SCALE_BLOCK)
    # A second backward pass through the same graph is then refused by autograd.
    torch.autograd.graph.increment_version(gradient)
    return gradient


def _counter(device: torch.device) -> Tensor:
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    if (device, stream) not in _finished:
        _finished[device, stream] = torch.zeros(1, dtype=torch.int32, device=device)
    return _finished[device, stream]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _check(predictions: Tensor, *others: Tensor) -> None:
    for tensor in (predictions, *others[:1]):
        if tensor.dtype not in DTYPES:
            raise ValueError(
                f"loss: the kernel takes float32, bfloat16 or float16, not {tensor.dtype}"
            )
    for weights in others[1:]:
        if weights.dtype != torch.float32:
            raise ValueError(f"loss: weights must be float32, got {weights.dtype}")
    if predictions.numel() == 0:
        raise ValueError(f"loss: no rows in predictions of shape {tuple(predictions.shape)}")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in others):
        raise ValueError(
            "loss: the kernel has a gradient for the predictions alone; detach the rest"
        )
