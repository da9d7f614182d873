"""The Triton side of `kernels.adamw`; imported on first use, so that a CPU needs no triton."""

# A kernel is no Python: its arguments are pointers and numbers, and its names are Triton's.
# ruff: noqa: ANN001, N803
# pyright: reportArgumentType=false

import triton
import triton.language as tl


@triton.jit
def _step_block(
    parameters,
    gradients,
    means,
    squares,
    targets,
    parameter_copies,
    target_copies,
    index,
    inside,
    keep,
    step_size,
    mean_weight,
    beta2,
    root_scale,
    eps,
    ema_weight,
    HAS_PARAMETER_COPY: tl.constexpr,
    HAS_TARGET: tl.constexpr,
    HAS_TARGET_COPY: tl.constexpr,
    MASKED: tl.constexpr,
) -> None:
    mask = inside if MASKED else None
    # Converted right after the load: the interpreter does bfloat16 arithmetic on bit patterns.
    gradient = tl.load(gradients + index, mask=mask).to(tl.float32)
    parameter = tl.load(parameters + index, mask=mask)
    mean = tl.load(means + index, mask=mask)
    square = tl.load(squares + index, mask=mask)
    mean += mean_weight * (gradient - mean)
    square = beta2 * square + (1.0 - beta2) * gradient * gradient
    root = tl.sqrt_rn(square) * root_scale + eps
    parameter = keep * parameter - step_size * tl.div_rn(mean, root)
    tl.store(means + index, mean, mask=mask)
    tl.store(squares + index, square, mask=mask)
    tl.store(parameters + index, parameter, mask=mask)
    if HAS_PARAMETER_COPY:
        copied = parameter.to(parameter_copies.dtype.element_ty)
        tl.store(parameter_copies + index, copied, mask=mask)
    if HAS_TARGET:
        target = tl.load(targets + index, mask=mask)
        target += ema_weight * (parameter - target)
        tl.store(targets + index, target, mask=mask)
        if HAS_TARGET_COPY:
            copied = target.to(target_copies.dtype.element_ty)
            tl.store(target_copies + index, copied, mask=mask)


@triton.jit
def adamw_ema_kernel(
    parameters,
    gradients,
    means,
    squares,
    targets,
    parameter_copies,
    target_copies,
    numbers,
    numel,
    mean_weight,
    beta2,
    eps,
    HAS_PARAMETER_COPY: tl.constexpr,
    HAS_TARGET: tl.constexpr,
    HAS_TARGET_COPY: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """AdamW over a flat partition, then the EMA of what it gave, and copies of both.

    ``numbers`` points to `partition.adamw_numbers`.
    """
    keep = tl.load(numbers)
    step_size = tl.load(numbers + 1)
    root_scale = tl.load(numbers + 2)
    ema_weight = tl.load(numbers + 3)
    start = tl.program_id(0).to(tl.int64) * BLOCK
    index = start + tl.arange(0, BLOCK)
    # Two bodies: without a mask loads are 16 bytes wide whatever the size of the partition.
    if start + BLOCK <= numel:
        _step_block(
            parameters,
            gradients,
            means,
            squares,
            targets,
            parameter_copies,
            target_copies,
            index,
            index < numel,
            keep,
            step_size,
            mean_weight,
            beta2,
            root_scale,
            eps,
            ema_weight,
            HAS_PARAMETER_COPY,
            HAS_TARGET,
            HAS_TARGET_COPY,
            False,
        )
    else:
        _step_block(
            parameters,
            gradients,
            means,
            squares,
            targets,
            parameter_copies,
            target_copies,
            index,
            index < numel,
            keep,
            step_size,
            mean_weight,
            beta2,
            root_scale,
            eps,
            ema_weight,
            HAS_PARAMETER_COPY,
            HAS_TARGET,
            HAS_TARGET_COPY,
            True,
        )
