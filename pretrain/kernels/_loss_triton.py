"""The Triton side of `kernels.loss`; imported on first use, so that a CPU needs no triton."""

# A kernel is no Python: its arguments are pointers and numbers, and its names are Triton's.
# ruff: noqa: ANN001, N803
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

import triton
import triton.language as tl


@triton.jit
def loss_kernel(
    predictions,
    projections,
    row_weights,
    pair_weights,
    gradient,
    partials,
    finished,
    losses,
    total,
    num_pairs,
    batch,
    embed,
    eps,
    HAS_GRADIENT: tl.constexpr,
    HAS_PAIR_WEIGHTS: tl.constexpr,
    ROWS: tl.constexpr,
    EMBED: tl.constexpr,
    PAIRS: tl.constexpr,
    PARTS: tl.constexpr,
    LOOPS: tl.constexpr,
) -> None:
    """Losses of all pairs and their gradient; a program has ``ROWS`` rows of both views of a pair.

    The program that finishes last adds the parts up in the order of their numbers, so that the
    sums do not depend on which it was; it leaves ``finished`` at 0 for the next launch.
    """
    part = tl.program_id(0)
    pair = tl.program_id(1)
    num_parts = tl.num_programs(0)
    row = part * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, EMBED)
    inside = (row < batch)[:, None] & (column < embed)[None, :]
    weight = tl.load(row_weights + pair * batch + row, mask=row < batch, other=0.0)
    pair_weight = 1.0
    if HAS_PAIR_WEIGHTS:
        pair_weight = tl.load(pair_weights + pair)
    summed = tl.zeros([ROWS], dtype=tl.float32)
    for view in tl.static_range(2):
        here = (((pair * 2 + view) * batch + row).to(tl.int64) * embed)[:, None] + column[None, :]
        there = (((pair * 2 + 1 - view) * batch + row).to(tl.int64) * embed)[:, None]
        there += column[None, :]
        # Converted right after the load: the interpreter does bfloat16 arithmetic on bit patterns.
        prediction = tl.load(predictions + here, mask=inside, other=0.0).to(tl.float32)
        projection = tl.load(projections + there, mask=inside, other=0.0).to(tl.float32)
        shrink = tl.rsqrt(tl.sum(prediction * prediction, 1) + eps)
        target_shrink = tl.rsqrt(tl.sum(projection * projection, 1) + eps)
        unit = prediction * shrink[:, None]
        target_unit = projection * target_shrink[:, None]
        cosine = tl.sum(unit * target_unit, 1)
        summed += weight * (2.0 - 2.0 * cosine)
        if HAS_GRADIENT:
            scale = -2.0 * weight * pair_weight * shrink
            slope = scale[:, None] * (target_unit - cosine[:, None] * unit)
            tl.store(gradient + here, slope.to(gradient.dtype.element_ty), mask=inside)
    tl.store(partials + pair * num_parts + part, tl.sum(summed, 0))
    tl.debug_barrier()  # the counter must not be seen before the part
    before = tl.atomic_add(finished, 1, sem="acq_rel")
    if before == num_parts * num_pairs - 1:
        every = tl.arange(0, PAIRS)
        sums = tl.zeros([PAIRS], dtype=tl.float32)
        for loop in range(LOOPS):
            some = loop * PARTS + tl.arange(0, PARTS)
            known = (every < num_pairs)[:, None] & (some < num_parts)[None, :]
            places = partials + every[:, None] * num_parts + some[None, :]
            # .cg: what other programs wrote is not in this one's first cache
            sums += tl.sum(tl.load(places, mask=known, other=0.0, cache_modifier=".cg"), 1)
        tl.store(losses + every, sums, mask=every < num_pairs)
        if HAS_PAIR_WEIGHTS:
            factors = tl.load(pair_weights + every, mask=every < num_pairs, other=0.0)
            tl.store(total, tl.sum(sums * factors, 0))
        tl.store(finished, 0)


@triton.jit
def scale_kernel(
    gradient,
    scales,
    scale_stride,
    numel,
    BLOCK: tl.constexpr,
) -> None:
    """``gradient[pair] *= scales[pair]`` in place; a pair whose scale is 1 is not touched.

    ``numel`` is the number of entries of a pair; one scale is for all of them if its stride is 0.
    """
    pair = tl.program_id(1)
    scale = tl.load(scales + pair * scale_stride)
    if scale != 1.0:
        index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        places = gradient + pair.to(tl.int64) * numel + index
        inside = index < numel
        value = tl.load(places, mask=inside).to(tl.float32)
        tl.store(places, (value * scale).to(gradient.dtype.element_ty), mask=inside)
