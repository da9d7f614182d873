"""What AdamW and the EMA after it work on: flat tensors, and the numbers of a step."""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Float32
from torch import Tensor

MASTERS = ("parameters", "means", "squares", "targets")
"""What of a partition is float32 in any case."""


@dataclass(frozen=True, kw_only=True)
class AdamwEma:
    """The numbers of one step."""

    learning_rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    """Decoupled: a share of ``learning_rate`` of each parameter."""
    step: int
    """Counted from 1, as torch's bias correction does."""
    tau: float = 1.0
    """Share of the old target kept, in [0, 1]."""

    def __post_init__(self) -> None:
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"adamw: betas must be in [0, 1), got {self.betas}")
        if self.step < 1:
            raise ValueError(f"adamw: steps are counted from 1, got {self.step}")
        if not 0.0 <= self.tau <= 1.0:
            raise ValueError(f"adamw: tau must be in [0, 1], got {self.tau}")

    @property
    def keep(self) -> float:
        """What weight decay leaves of a parameter."""
        return 1.0 - self.learning_rate * self.weight_decay

    @property
    def step_size(self) -> float:
        """Learning rate over the first moment's bias correction."""
        return self.learning_rate / (1.0 - self.betas[0] ** self.step)

    @property
    def root_correction(self) -> float:
        """What the second moment's root is divided by."""
        return math.sqrt(1.0 - self.betas[1] ** self.step)


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
