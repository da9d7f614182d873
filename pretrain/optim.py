"""The optimizer's settings and its parameter groups."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pretrain.schedules import warmup_cosine


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019) with linear warm-up and cosine decay."""

    learning_rate: float = 1e-3
    """Peak learning rate, reached after warm-up."""

    warmup_fraction: float = 0.1
    """Share of all steps spent on linear warm-up, in [0, 1)."""

    weight_decay: float = 0.05
    """Decoupled decay of matrices; biases, norms and embeddings of rank 1 are left out."""

    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the first and second moment, each in [0, 1)."""

    eps: float = 1e-6
    """Added to the root of the second moment."""

    max_gradient_norm: float = 3.0
    """Global gradient norm above which gradients are scaled down."""

    def __post_init__(self) -> None:
        if not self.learning_rate > 0.0:
            raise ValueError(f"optim.learning_rate must be positive, got {self.learning_rate}")
        if not 0.0 <= self.warmup_fraction < 1.0:
            raise ValueError(f"optim.warmup_fraction must be in [0, 1), got {self.warmup_fraction}")
        if not self.weight_decay >= 0.0:
            raise ValueError(f"optim.weight_decay must not be negative, got {self.weight_decay}")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"optim.betas must be in [0, 1), got {self.betas}")
        if not self.eps > 0.0:
            raise ValueError(f"optim.eps must be positive, got {self.eps}")
        if not self.max_gradient_norm > 0.0:
            raise ValueError(
                f"optim.max_gradient_norm must be positive, got {self.max_gradient_norm}"
            )


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices decay, vectors do not."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim >= 2]
    vectors = [p for p in trainable if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Torch's fused AdamW over `parameter_groups`."""
    return torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """Learning rate of optimizer step ``step``, counted from 0."""
    warmup_steps = round(config.warmup_fraction * total_steps)
    return warmup_cosine(step, total_steps, warmup_steps, config.learning_rate)


def set_learning_rate(groups: Iterable[dict[str, Any]], value: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in groups:
        group["lr"] = value
