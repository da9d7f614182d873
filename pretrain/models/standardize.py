"""Rows to mean 0 and variance 1, over the dimensions of a row or over the rows of a cohort.

Batch statistics are taken per head, view and cohort, over the rows that count, in float32 at
least. Means and sums of squared deviations are combined over ranks, never sums of squares.

Source: Ioffe & Szegedy 2015, arXiv 1502.03167; Chan, Golub & LeVeque 1979, for the combination.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pretrain.models.cohorts import Cohorts

EPS = 1e-5
"""Added to every variance."""

NormKind = Literal["batch", "layer"]


class Standardize(nn.Module):
    """The norm of a head, without gain and bias. It has no parameters and keeps no statistics.

    Args:
        norm: Over the rows of a cohort, or over the dimensions of each row.
        cohorts: Which rows share statistics; None is all rows of a call. So are other rows than a
            whole micro-batch, such as the few that a health look reads: no other rank is asked.
    """

    def __init__(self, norm: NormKind, cohorts: Cohorts | None = None) -> None:
        super().__init__()
        self._norm = norm
        self._cohorts = cohorts

    def forward(
        self,
        hidden: Float[Tensor, "head view batch dim"],
        counted: Float[Tensor, "head batch"] | None = None,
    ) -> Float[Tensor, "head view batch dim"]:
        """The standardized rows. Collective where a cohort lies over several ranks.

        Args:
            hidden: Rows of each head and view.
            counted: 1 for the rows that have a part in the batch statistics, else 0: those come
                out as zeros, and give and get no gradient. None is all.
        """
        if self._norm == "layer":
            return F.layer_norm(hidden, hidden.shape[-1:])
        cohorts = self._cohorts_of(hidden.shape[2])
        if cohorts.neighbours is None and counted is None:
            return _standardize_whole_cohorts(hidden, cohorts)
        if counted is None:
            counted = torch.ones(hidden.shape[0], hidden.shape[2], device=hidden.device)
        return _CohortNorm.apply(hidden, counted, cohorts)  # pyright: ignore[reportReturnType]

    def _cohorts_of(self, batch: int) -> Cohorts:
        if self._cohorts is not None and batch == self._cohorts.micro_samples:
            return self._cohorts
        return Cohorts(samples=batch, micro_samples=batch)


def _standardize_whole_cohorts(
    hidden: Float[Tensor, "head view batch dim"], cohorts: Cohorts
) -> Float[Tensor, "head view batch dim"]:
    """All rows count and none is elsewhere: every (head, view, cohort, dim) is a channel.

    Given bfloat16 on a CPU, torch would round the statistics to it.
    """
    columns = cohorts.split(_wide(hidden)).permute(3, 0, 1, 2, 4)
    normed = F.batch_norm(columns.flatten(1), None, None, training=True, eps=EPS)
    return normed.view(columns.shape).permute(1, 2, 3, 0, 4).flatten(2, 3).to(hidden.dtype)


class _CohortNorm(torch.autograd.Function):
    """One exchange among the ranks of a cohort forward, and one backward."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Float[Tensor, "head view batch dim"],
        counted: Float[Tensor, "head batch"],
        cohorts: Cohorts,
    ) -> Float[Tensor, "head view batch dim"]:
        rows = cohorts.split(_wide(hidden))
        weight = cohorts.split(counted.to(rows.dtype)[:, None, :, None])
        mean, variance, count = _statistics(rows, weight, cohorts)
        scale = torch.rsqrt(variance + EPS)
        ctx.cohorts = cohorts
        ctx.save_for_backward(hidden, weight, mean, scale, count)
        return ((rows - mean) * scale * weight).flatten(2, 3).to(hidden.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        gradient: Float[Tensor, "head view batch dim"],
    ) -> tuple[Float[Tensor, "head view batch dim"], None, None]:
        hidden, weight, mean, scale, count = ctx.saved_tensors
        cohorts: Cohorts = ctx.cohorts
        normed = (cohorts.split(_wide(hidden)) - mean) * scale * weight
        slope = cohorts.split(_wide(gradient)) * weight
        sums = torch.cat([part.sum(3, keepdim=True) for part in (slope, slope * normed)], dim=-1)
        total = cohorts.for_own_blocks(cohorts.by_cohort(sums).sum(3, keepdim=True))
        along_one, along_normed = (total / count).chunk(2, dim=-1)
        moved = (slope - along_one - normed * along_normed) * scale * weight
        return moved.flatten(2, 3).to(hidden.dtype), None, None


def _statistics(
    rows: Float[Tensor, "head view block row dim"],
    weight: Float[Tensor, "head 1 block row 1"],
    cohorts: Cohorts,
) -> tuple[
    Float[Tensor, "head view block 1 dim"],
    Float[Tensor, "head view block 1 dim"],
    Float[Tensor, "head view block 1 1"],
]:
    """Mean, variance and number of rows (1 where there are none) of each block's cohort."""
    dim = rows.shape[-1]
    count = weight.sum(3, keepdim=True)
    mean = (rows * weight).sum(3, keepdim=True) / count.clamp(min=1.0)
    deviation = ((rows - mean) * weight).square().sum(3, keepdim=True)
    own = torch.cat([mean, deviation, count.expand(-1, rows.shape[1], -1, -1, -1)], dim=-1)
    means, deviations, counts = cohorts.by_cohort(own).split([dim, dim, 1], dim=-1)
    number = counts.sum(3, keepdim=True).clamp(min=1.0)
    centre = (means * counts).sum(3, keepdim=True) / number
    spread = (deviations + counts * (means - centre).square()).sum(3, keepdim=True)
    whole = cohorts.for_own_blocks(torch.cat([centre, spread / number, number], dim=-1))
    mean, variance, count = whole.split([dim, dim, 1], dim=-1)
    return mean, variance, count


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
