"""The Triton side of `kernels.ema`; imported on first use, so that a CPU needs no triton."""

# A kernel is no Python: its arguments are pointers and numbers, and its names are Triton's.
# ruff: noqa: ANN001, N803
# pyright: reportArgumentType=false, reportReturnType=false

import torch
import triton
import triton.language as tl

TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
"""What a table's addresses may point to."""


@triton.jit
def _follow(
    target, online, copy, index, inside, weight, HAS_COPY: tl.constexpr, MASKED: tl.constexpr
) -> tl.tensor:
    """``target += weight (online - target)`` in float32; the squared distance before it."""
    mask = inside if MASKED else None
    old = tl.load(target + index, mask=mask)
    # Converted right after the load: the interpreter does bfloat16 arithmetic on bit patterns.
    gap = tl.load(online + index, mask=mask).to(tl.float32) - old
    if MASKED:
        gap = tl.where(inside, gap, 0.0)
    mixed = old + weight * gap
    tl.store(target + index, mixed, mask=mask)
    if HAS_COPY:
        tl.store(copy + index, mixed.to(copy.dtype.element_ty), mask=mask)
    return tl.sum(gap * gap, 0)


@triton.jit
def ema_kernel(
    tensors,
    blocks,
    partials,
    weight,
    ONLINE: tl.constexpr,
    COPY: tl.constexpr,
    HAS_COPY: tl.constexpr,
    HAS_DISTANCE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The EMA of many tensors; a program has one block of one tensor.

    ``tensors`` has a row of int64 for each: addresses of target, online and copy, number of
    entries. ``blocks`` has a row of int32 for each program: tensor, block of it. ``weight`` points
    to 1 - tau.
    """
    program = tl.program_id(0)
    row = tensors + tl.load(blocks + 2 * program) * 4
    start = tl.load(blocks + 2 * program + 1).to(tl.int64) * BLOCK
    target = tl.load(row)
    online = tl.load(row + 1)
    copy = tl.load(row + 2)
    numel = tl.load(row + 3)
    share = tl.load(weight)
    index = start + tl.arange(0, BLOCK)
    # Loads are 16 bytes wide where no mask cuts them and the addresses allow it.
    if (start + BLOCK <= numel) & ((target | online | copy) % 16 == 0):
        squared = _follow(
            tl.multiple_of(target.to(tl.pointer_type(tl.float32)), 16),
            tl.multiple_of(online.to(tl.pointer_type(ONLINE)), 16),
            tl.multiple_of(copy.to(tl.pointer_type(COPY)), 16),
            index,
            index < numel,
            share,
            HAS_COPY,
            False,
        )
    else:
        squared = _follow(
            target.to(tl.pointer_type(tl.float32)),
            online.to(tl.pointer_type(ONLINE)),
            copy.to(tl.pointer_type(COPY)),
            index,
            index < numel,
            share,
            HAS_COPY,
            True,
        )
    if HAS_DISTANCE:
        tl.store(partials + program, squared)
