"""Are the kernels as exact as plain torch? Each against float64, and its twin against the same.

    TRITON_INTERPRET=1 python benchmarks/kernels_numerics.py    # without a GPU
    python benchmarks/kernels_numerics.py                       # on one

A result may err twice as much as eager torch, or by four roundings of its dtype where eager was
lucky; the greatest error of all entries counts. Exits with 1 where one errs more. The interpreter
truncates what it stores in bfloat16, which is within the four roundings.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import torch
from interleaved import RESULTS, versions
from kernels_compared import Compared, Results, compare, unchanged
from kernels_layers import layers_cases
from kernels_pictures import picture_cases
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
    reference,
)
from pretrain.kernels import loss as loss_kernel
from pretrain.kernels.loss import fused_all_pairs_loss, fused_weighted_loss

GUARD = 8
"""Entries between two tensors of a case, which nobody may write to; the tensors stay aligned."""


def loss_rows(
    shape: tuple[int, int, int, int], dtype: torch.dtype, size: float, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Predictions, projections, row weights of which some are 0, and pair weights."""
    torch.manual_seed(0)
    pairs, _, batch, _ = shape
    predictions = (size * torch.randn(shape, device=device)).to(dtype)
    projections = (size * torch.randn(shape, device=device)).to(dtype)
    row_weights = torch.rand(pairs, batch, device=device) / batch
    row_weights[:, 1::3] = 0.0
    pair_weights = torch.rand(pairs, device=device) + 0.5
    return predictions, projections, row_weights, pair_weights


def loss_case(
    shape: tuple[int, int, int, int], dtype: torch.dtype, size: float, device: str
) -> Iterator[Compared]:
    """Losses and gradients, by pair and weighted; rows of about ``size`` an entry."""
    rows, projections, row_weights, pair_weights = loss_rows(shape, dtype, size, device)
    given = (projections, row_weights)
    exactly = [tensor.double() for tensor in given]

    def by_pair(run: Callable[[Tensor], Tensor], predictions: Tensor) -> Results:
        leaf = predictions.clone().requires_grad_()
        losses = run(leaf)
        [gradient] = torch.autograd.grad((losses * pair_weights).sum(), leaf)
        return {"losses": losses.detach(), "gradient": gradient}

    def weighted(run: Callable[[Tensor], tuple[Tensor, Tensor]], predictions: Tensor) -> Results:
        leaf = predictions.clone().requires_grad_()
        total, losses = run(leaf)
        [gradient] = torch.autograd.grad(total, leaf)
        return {"total": total.detach(), "losses": losses, "gradient": gradient}

    name = f"loss {'x'.join(map(str, shape))} {str(dtype)[6:]} of size {size:g}"

    def ours() -> Results:
        return by_pair(lambda leaf: fused_all_pairs_loss(leaf, *given, loss.EPS), rows)

    first = ours()
    yield from compare(
        name,
        first,
        by_pair(lambda leaf: loss.plain_all_pairs_loss(leaf, *given), rows),
        by_pair(lambda leaf: loss.plain_all_pairs_loss(leaf, *exactly), rows.double()),
    )
    yield unchanged(name, first, ours())
    weights = pair_weights.double()
    yield from compare(
        f"weighted {name}",
        weighted(lambda leaf: fused_weighted_loss(leaf, *given, pair_weights, loss.EPS), rows),
        weighted(lambda leaf: loss.plain_weighted_loss(leaf, *given, pair_weights), rows),
        weighted(lambda leaf: loss.plain_weighted_loss(leaf, *exactly, weights), rows.double()),
    )


def many_rows_case(dtype: torch.dtype, summed: int, device: str) -> Iterator[Compared]:
    """More parts, of one row each, than are added up at once, which are ``summed``: 2, 4, 8, ..."""
    with patch.object(loss_kernel, "SUMMED_PARTS", summed):
        yield from loss_case((1, 2, summed + 2, 1030), dtype, 1.0, device)


def ema_case(
    sizes: Sequence[int],
    online_dtype: torch.dtype,
    copy_dtype: torch.dtype | None,
    device: str,
) -> Iterator[Compared]:
    """Two updates of tensors of many sizes, some of them not aligned; what lies between stays."""
    torch.manual_seed(0)
    starts = [0]
    for number, size in enumerate(sizes):
        starts.append(starts[-1] + size + (-size) % GUARD + GUARD + (number % 3 == 2))
    master = torch.randn(starts[-1], device=device)
    online = torch.randn(starts[-1], device=device).to(online_dtype)

    def places(flat: Tensor) -> list[Tensor]:
        return [flat[start:][:size] for start, size in zip(starts, sizes, strict=False)]

    def twice(fused: bool) -> Results:
        flat, copies = master.clone(), torch.zeros_like(master, dtype=copy_dtype or torch.float32)
        distance, table = torch.zeros((), device=device), TensorTable()
        written = None if copy_dtype is None else places(copies)
        for tau in (0.9, 0.99):
            weight = torch.tensor(ema_numbers(tau), device=device)
            given = (places(flat), places(online), weight, written, distance)
            if fused:
                ema.fused_ema_update_(*given, table=table)
            else:
                reference.ema_update_(*given)
        return {"target": flat, "copy": copies, "distance": distance}

    exact, squared = master.double(), torch.zeros((), dtype=torch.float64, device=device)
    copied = torch.zeros_like(exact)
    for tau in (0.9, 0.99):
        gaps = torch.cat(places(online)).double() - torch.cat(places(exact))
        squared = gaps.square().sum()
        for target, source in zip(places(exact), places(online), strict=True):
            target.lerp_(source.double(), 1.0 - tau)
    if copy_dtype is not None:
        for copy, target in zip(places(copied), places(exact), strict=True):
            copy.copy_(target)
    name = (
        f"EMA of {str(online_dtype)[6:]}, copy {str(copy_dtype or 'none').removeprefix('torch.')}"
    )
    found = {"target": exact, "copy": copied, "distance": squared}
    yield from compare(name, twice(True), twice(False), found)


RATE, BETAS, EPS, DECAY, FIRST_STEP, TAU = 1e-2, (0.9, 0.95), 1e-8, 0.1, 3, 0.9
"""Of AdamW, which is looked at from its third step on."""


def partition(
    size: int, gradient_dtype: torch.dtype, copy_dtype: torch.dtype | None, device: str
) -> FlatPartition:
    """Random but for a third of the gradients, which is so small that eps decides the step."""
    torch.manual_seed(0)
    parameters, gradients, means, targets = torch.randn(4, size, device=device).unbind()
    squares = means.square()
    for tensor, factor in ((gradients, 1e-9), (means, 1e-9), (squares, 1e-18)):
        tensor[: size // 3] *= factor
    copies = None if copy_dtype is None else torch.zeros(2, size, dtype=copy_dtype, device=device)
    return FlatPartition(
        parameters=parameters.clone(),
        gradients=gradients.to(gradient_dtype),
        means=means.clone(),
        squares=squares.clone(),
        targets=targets.clone(),
        parameter_copies=None if copies is None else copies[0].clone(),
        target_copies=None if copies is None else copies[1].clone(),
    )


def adamw_case(
    size: int, gradient_dtype: torch.dtype, copy_dtype: torch.dtype | None, device: str
) -> Iterator[Compared]:
    """Two steps against ``torch.optim.AdamW`` in float64, followed by the exact EMA."""
    fused, eager, start = (partition(size, gradient_dtype, copy_dtype, device) for _ in range(3))
    assert start.targets is not None
    weight = torch.nn.Parameter(start.parameters.double())
    optimizer = torch.optim.AdamW(
        [weight],
        lr=RATE,
        betas=BETAS,
        eps=EPS,
        weight_decay=DECAY,
    )
    state = {"step": torch.tensor(float(FIRST_STEP - 1))}
    state |= {"exp_avg": start.means.double(), "exp_avg_sq": start.squares.double()}
    optimizer.state[weight] = state
    weight.grad, target = start.gradients.double(), start.targets.double()
    for step in (FIRST_STEP, FIRST_STEP + 1):
        changing = torch.tensor(adamw_numbers(RATE, BETAS, DECAY, step, TAU), device=device)
        numbers = AdamwEma(changing=changing, betas=BETAS, eps=EPS)
        adamw.fused_adamw_ema_(fused, numbers)
        reference.adamw_ema_(eager, numbers)
        optimizer.step()
        target.lerp_(weight.detach(), 1.0 - TAU)
    exact = {"parameters": weight.detach(), "means": state["exp_avg"], "targets": target}
    exact["squares"] = state["exp_avg_sq"]
    if copy_dtype is not None:
        exact |= {"parameter_copies": weight.detach(), "target_copies": target}
    name = f"AdamW + EMA of {str(gradient_dtype)[6:]}, {'with' if copy_dtype else 'no'} copies"
    yield from compare(name, vars(fused), vars(eager), exact)


def loss_cases(device: str, large: bool) -> Iterator[Compared]:
    """Shapes with and without padding; under the interpreter fewer parts are added up at once."""
    shapes = [(3, 2, 13, 200), (1, 2, 5, 64)]
    for dtype in (torch.float32, torch.bfloat16):
        for shape in [*shapes, (10, 2, 256, 256)] if large else shapes:
            yield from loss_case(shape, dtype, 1.0, device)
        yield from many_rows_case(dtype, loss_kernel.SUMMED_PARTS if large else 8, device)
        yield from loss_case((2, 2, 5, 40), dtype, 1e-6, device)  # eps counts


def ema_cases(device: str, large: bool) -> Iterator[Compared]:
    """All pairs of types; sizes about a block's.

    The third tensor is the last that is aligned: whole blocks of it are read without a mask.
    """
    sizes = [1, 7, 2 * ema.BLOCK + 5, ema.BLOCK - 1, ema.BLOCK, ema.BLOCK + 1]
    sizes += [1_000_003, 4_194_304] if large else []
    for online_dtype in (torch.float32, torch.bfloat16):
        for copy_dtype in (None, torch.float32, torch.bfloat16):
            yield from ema_case(sizes, online_dtype, copy_dtype, device)


def adamw_cases(device: str, large: bool) -> Iterator[Compared]:
    """A partition that is no multiple of a block."""
    for gradient_dtype in (torch.float32, torch.bfloat16):
        for copy_dtype in (None, torch.bfloat16):
            size = 4_000_007 if large else 2 * adamw.BLOCK + 3
            yield from adamw_case(size, gradient_dtype, copy_dtype, device)


CASES = {
    "loss": loss_cases,
    "ema": ema_cases,
    "adamw": adamw_cases,
    "layers": layers_cases,
    "pictures": picture_cases,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "kernels_numerics.json")
    options = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available()
    found = [c for cases in CASES.values() for c in cases("cuda" if on_gpu else "cpu", on_gpu)]
    for c in found:
        verdict = "met" if c.met else "MISSED"
        print(f"{c.case + ': ' + c.result:<70} {c.error:.2e}, of {c.budget:.2e} allowed: {verdict}")
    record = {
        "device": torch.cuda.get_device_name() if on_gpu else "triton's interpreter on a CPU",
        "versions": versions("torch", "triton"),
        "results": [asdict(c) | {"met": c.met} for c in found],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if all(c.met for c in found) else 1


if __name__ == "__main__":
    sys.exit(main())
