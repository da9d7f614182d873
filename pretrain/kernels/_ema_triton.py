"""The Triton side of `kernels.ema`; imported on first use, so that a CPU needs no triton."""

import triton
import triton.language as tl


@triton.jit
def ema_kernel(
    target,  # noqa: ANN001
    online,  # noqa: ANN001
    copy,  # noqa: ANN001
    weight,  # noqa: ANN001
    num_elements,  # noqa: ANN001
    HAS_COPY: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """``target += weight (online - target)`` in float32; ``copy`` gets it in its own type."""
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < num_elements
    old = tl.load(target + index, mask=inside)
    # Converted right after the load: the interpreter does bfloat16 arithmetic on bit patterns.
    new = tl.load(online + index, mask=inside).to(tl.float32)
    mixed = old + weight * (new - old)
    tl.store(target + index, mixed, mask=inside)
    if HAS_COPY:
        tl.store(copy + index, mixed.to(copy.dtype.element_ty), mask=inside)
