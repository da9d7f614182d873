"""The Triton side of `kernels.lars`; imported on first use, so that a CPU needs no triton."""

# A kernel is no Python: its arguments are pointers and numbers, and its names are Triton's.
# ruff: noqa: ANN001, N803
# pyright: reportArgumentType=false, reportReturnType=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false

import torch
import triton
import triton.language as tl

TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
"""What a table's addresses may point to."""
COLUMNS = tl.constexpr(7)
"""Of a row: addresses of parameter, gradient, velocity, target, both copies; entries."""


@triton.jit
def _squares(parameter, gradient, index, inside, MASKED: tl.constexpr) -> tuple:
    mask = inside if MASKED else None
    # Converted right after the load: the interpreter does bfloat16 arithmetic on bit patterns.
    weight = tl.load(parameter + index, mask=mask)
    slope = tl.load(gradient + index, mask=mask).to(tl.float32)
    if MASKED:
        weight = tl.where(inside, weight, 0.0)
        slope = tl.where(inside, slope, 0.0)
    return weight * weight, slope * slope


@triton.jit
def _sums(parameter, gradient, start, stop, BLOCK: tl.constexpr) -> tuple:
    """Sums of squares of a stretch of a layer."""
    weights = tl.zeros([BLOCK], dtype=tl.float32)
    slopes = tl.zeros([BLOCK], dtype=tl.float32)
    # No range over what is read from memory: triton 3.6's interpreter has none.
    while start + BLOCK <= stop:
        index = start + tl.arange(0, BLOCK)
        weight, slope = _squares(parameter, gradient, index, index < stop, False)
        weights += weight
        slopes += slope
        start += BLOCK
    if start < stop:
        index = start + tl.arange(0, BLOCK)
        weight, slope = _squares(parameter, gradient, index, index < stop, True)
        weights += weight
        slopes += slope
    return tl.sum(weights, 0), tl.sum(slopes, 0)


@triton.jit
def norms_kernel(
    tensors, parts, partials, GRADIENT: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    """Sums of squares of parameters and gradients; a program has one part of one layer."""
    program = tl.program_id(0)
    row = tensors + tl.load(parts + 2 * program) * COLUMNS
    start = tl.load(parts + 2 * program + 1).to(tl.int64) * PART
    parameter = tl.load(row)
    gradient = tl.load(row + 1)
    stop = tl.minimum(start + PART, tl.load(row + 6))
    # Loads are 16 bytes wide where the addresses allow it.
    if (parameter | gradient) % 16 == 0:
        weights, slopes = _sums(
            tl.multiple_of(parameter.to(tl.pointer_type(tl.float32)), 16),
            tl.multiple_of(gradient.to(tl.pointer_type(GRADIENT)), 16),
            start,
            stop,
            BLOCK,
        )
    else:
        weights, slopes = _sums(
            parameter.to(tl.pointer_type(tl.float32)),
            gradient.to(tl.pointer_type(GRADIENT)),
            start,
            stop,
            BLOCK,
        )
    tl.store(partials + 2 * program, weights)
    tl.store(partials + 2 * program + 1, slopes)


@triton.jit
def _trust(partials, first, last, weight_decay, coefficient, PARTS: tl.constexpr) -> tl.tensor:
    """A layer's share of the learning rate, from its parts in the order of their numbers."""
    weights = tl.zeros([PARTS], dtype=tl.float32)
    slopes = tl.zeros([PARTS], dtype=tl.float32)
    while first < last:
        part = first + tl.arange(0, PARTS)
        weights += tl.load(partials + 2 * part, mask=part < last, other=0.0)
        slopes += tl.load(partials + 2 * part + 1, mask=part < last, other=0.0)
        first += PARTS
    weight_norm = tl.sqrt_rn(tl.sum(weights, 0))
    slope_norm = tl.sqrt_rn(tl.sum(slopes, 0))
    usable = (weight_norm > 0.0) & (slope_norm > 0.0)
    divisor = tl.where(usable, slope_norm + weight_decay * weight_norm, 1.0)
    return tl.where(usable, coefficient * weight_norm / divisor, 1.0)


@triton.jit
def _step_block(
    parameter,
    gradient,
    velocity,
    target,
    parameter_copy,
    target_copy,
    index,
    inside,
    rate,
    momentum,
    weight_decay,
    ema_weight,
    HAS_PARAMETER_COPY: tl.constexpr,
    HAS_TARGET: tl.constexpr,
    HAS_TARGET_COPY: tl.constexpr,
    MASKED: tl.constexpr,
) -> None:
    mask = inside if MASKED else None
    weight = tl.load(parameter + index, mask=mask)
    slope = tl.load(gradient + index, mask=mask).to(tl.float32) + weight_decay * weight
    change = momentum * tl.load(velocity + index, mask=mask) + rate * slope
    weight -= change
    tl.store(velocity + index, change, mask=mask)
    tl.store(parameter + index, weight, mask=mask)
    if HAS_PARAMETER_COPY:
        tl.store(parameter_copy + index, weight.to(parameter_copy.dtype.element_ty), mask=mask)
    if HAS_TARGET:
        mixed = tl.load(target + index, mask=mask)
        mixed += ema_weight * (weight - mixed)
        tl.store(target + index, mixed, mask=mask)
        if HAS_TARGET_COPY:
            tl.store(target_copy + index, mixed.to(target_copy.dtype.element_ty), mask=mask)


@triton.jit
def lars_kernel(
    tensors,
    blocks,
    starts,
    partials,
    numbers,
    momentum,
    coefficient,
    GRADIENT: tl.constexpr,
    COPY: tl.constexpr,
    ADAPTS: tl.constexpr,
    HAS_PARAMETER_COPY: tl.constexpr,
    HAS_TARGET: tl.constexpr,
    HAS_TARGET_COPY: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """LARS, then the EMA of what it gave, and copies of both; a program has a block of a layer.

    ``starts`` has each layer's first part in ``partials``, and the number of all parts at its end.
    ``numbers`` points to `layers.lars_numbers`.
    """
    program = tl.program_id(0)
    layer = tl.load(blocks + 2 * program)
    rate = tl.load(numbers)
    weight_decay = tl.load(numbers + 1)
    ema_weight = tl.load(numbers + 2)
    if ADAPTS:
        first = tl.load(starts + layer)
        last = tl.load(starts + layer + 1)
        rate *= _trust(partials, first, last, weight_decay, coefficient, PARTS)
    row = tensors + layer * COLUMNS
    start = tl.load(blocks + 2 * program + 1).to(tl.int64) * BLOCK
    index = start + tl.arange(0, BLOCK)
    parameter = tl.load(row)
    gradient = tl.load(row + 1)
    velocity = tl.load(row + 2)
    target = tl.load(row + 3)
    parameter_copy = tl.load(row + 4)
    target_copy = tl.load(row + 5)
    numel = tl.load(row + 6)
    places = parameter | gradient | velocity | target | parameter_copy | target_copy
    # Loads are 16 bytes wide where no mask cuts them and the addresses allow it.
    if (start + BLOCK <= numel) & (places % 16 == 0):
        _step_block(
            tl.multiple_of(parameter.to(tl.pointer_type(tl.float32)), 16),
            tl.multiple_of(gradient.to(tl.pointer_type(GRADIENT)), 16),
            tl.multiple_of(velocity.to(tl.pointer_type(tl.float32)), 16),
            tl.multiple_of(target.to(tl.pointer_type(tl.float32)), 16),
            tl.multiple_of(parameter_copy.to(tl.pointer_type(COPY)), 16),
            tl.multiple_of(target_copy.to(tl.pointer_type(COPY)), 16),
            index,
            index < numel,
            rate,
            momentum,
            weight_decay,
            ema_weight,
            HAS_PARAMETER_COPY,
            HAS_TARGET,
            HAS_TARGET_COPY,
            False,
        )
    else:
        _step_block(
            parameter.to(tl.pointer_type(tl.float32)),
            gradient.to(tl.pointer_type(GRADIENT)),
            velocity.to(tl.pointer_type(tl.float32)),
            target.to(tl.pointer_type(tl.float32)),
            parameter_copy.to(tl.pointer_type(COPY)),
            target_copy.to(tl.pointer_type(COPY)),
            index,
            index < numel,
            rate,
            momentum,
            weight_decay,
            ema_weight,
            HAS_PARAMETER_COPY,
            HAS_TARGET,
            HAS_TARGET_COPY,
            True,
        )
