"""What AdamW and the EMA after it work on: flat tensors, and the numbers of a step."""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from pretrain.kernels.numbers import ema_numbers

MASTERS = ("parameters", "means", "squares", "targets")
"""What of a partition is float32 in any case."""


@dataclass(frozen=True, kw_only=True)
class AdamwEma:
    """The numbers of one step."""

    changing: Float32[Tensor, "4"]
    """`adamw_numbers` for the same betas, where the partition lives."""
    betas: tuple[float, float]
    eps: float

    def __post_init__(self) -> None:
        _check_betas(self.betas)


def adamw_numbers(
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    step: int,
    tau: float = 1.0,
) -> tuple[float, float, float, float]:
    """What of `AdamwEma` changes from step to step, as the kernel reads it.

    Args:
        learning_rate: Of this step.
        betas: Decay of the first and the second moment.
        weight_decay: Decoupled: a share of ``learning_rate`` of each parameter.
        step: Counted from 1, as torch's bias correction does.
        tau: Share of the old target kept.

    Returns:
        What weight decay leaves of a parameter; the learning rate over the first moment's bias
        correction; what the second moment's root is multiplied by; 1 - tau.

    Raises:
        ValueError: a number is outside its range.
    """
    _check_betas(betas)
    if step < 1:
        raise ValueError(f"adamw: steps are counted from 1, got {step}")
    return (
        1.0 - learning_rate * weight_decay,
        learning_rate / (1.0 - betas[0] ** step),
        1.0 / math.sqrt(1.0 - betas[1] ** step),
        *ema_numbers(tau),
    )


def _check_betas(betas: tuple[float, float]) -> None:
    if not all(0.0 <= beta < 1.0 for beta in betas):
        raise ValueError(f"adamw: betas must be in [0, 1), got {betas}")


@dataclass(frozen=True, kw_only=True)
class FlatPartition:
    """What a rank steps of one parameter group; all of one size, contiguous, on one device.

    Raises:
        ValueError: sizes, devices or dtypes do not fit, or a copy of a missing target is asked for.
    """

    parameters: Float32[Tensor, " entry"]
    gradients: Float[Tensor, " entry"]
    """float32 or narrower."""
    means: Float32[Tensor, " entry"]
    """First moments."""
    squares: Float32[Tensor, " entry"]
    """Second moments."""
    targets: Float32[Tensor, " entry"] | None = None
    parameter_copies: Float[Tensor, " entry"] | None = None
    """Overwritten with the parameters in their own dtype."""
    target_copies: Float[Tensor, " entry"] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            tensor = getattr(self, field.name)
            if tensor is None:
                continue
            if tensor.shape != self.parameters.shape or not tensor.is_contiguous():
                raise ValueError(f"adamw: {field.name} is not flat like the parameters")
            if tensor.device != self.parameters.device:
                raise ValueError(f"adamw: {field.name} is on another device than the parameters")
            if field.name in MASTERS and tensor.dtype != torch.float32:
                raise ValueError(f"adamw: {field.name} must be float32, got {tensor.dtype}")
        if self.target_copies is not None and self.targets is None:
            raise ValueError("adamw: target_copies without targets")
