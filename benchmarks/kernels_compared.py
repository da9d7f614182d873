"""A kernel's results against exact ones, and how far they may be off."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Greatest errors of one result against float64."""

    case: str
    result: str
    error: float
    eager_error: float
    budget: float

    @property
    def met(self) -> bool:
        """Whether the kernel is as exact as it must be; an error that is NaN is not."""
        return self.error <= self.budget


Results = Mapping[str, Tensor]


def compare(case: str, fused: Results, eager: Results, exact: Results) -> Iterator[Compared]:
    """Every result of a kernel and of its twin against the exact one."""
    for name, value in exact.items():
        error, eager_error = (_greatest_error(found[name], value) for found in (fused, eager))
        rounding = torch.finfo(fused[name].dtype).eps / 2
        budget = max(2.0 * eager_error, 4.0 * rounding * value.abs().max().item())
        yield Compared(case=case, result=name, error=error, eager_error=eager_error, budget=budget)


def unchanged(case: str, first: Results, second: Results) -> Compared:
    """A second run against the first: sums must not depend on which program was the last."""
    apart = max(_greatest_error(second[name], value.double()) for name, value in first.items())
    return Compared(case=case, result="run again", error=apart, eager_error=0.0, budget=0.0)


def _greatest_error(found: Tensor, exact: Tensor) -> float:
    return (found.double() - exact).abs().max().item()
