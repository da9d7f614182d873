"""The optimizer's settings, and its two schedules."""

from dataclasses import dataclass
from typing import Literal

from pretrain.schedules import half_cosine, warmup_cosine

OptimizerName = Literal["adamw", "sgd", "lars", "adagrad"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer, with linear warm-up and cosine decay of its learning rate."""

    optimizer: OptimizerName = "adamw"
    """`adamw` (Loshchilov & Hutter 2019, arXiv 1711.05101); `sgd` with momentum; `lars` (You et
    al. 2017, arXiv 1708.03888), for convolutions and large batches, with pretrain.zero_stage 0
    alone: it is known to collapse ViTs; `adagrad` (Duchi et al. 2011)."""

    learning_rate: float = 1e-3
    """Peak learning rate, reached after warm-up. It is not scaled by the batch; BYOL's LARS took
    0.2 * global_samples / 256."""

    final_learning_rate: float = 0.0
    """Learning rate that the cosine ends at."""

    warmup_fraction: float = 0.1
    """Share of all steps spent on linear warm-up, in [0, 1)."""

    weight_decay: float = 0.05
    """Decay of matrices; biases, gains of norms and other vectors are left out. Decoupled from
    the gradient for `adamw`, added to it for the others."""

    final_weight_decay: float | None = None
    """Weight decay that a half cosine from `weight_decay` ends at (DINO: 0.04 to 0.4); None keeps
    it constant."""

    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the first and second moment of `adamw`, each in [0, 1)."""

    eps: float = 1e-6
    """Added to the root of the second moment of `adamw` and of the sum of `adagrad`."""

    momentum: float = 0.9
    """Momentum of `sgd` and `lars`, in [0, 1)."""

    nesterov: bool = False
    """Nesterov's momentum, for `sgd` alone."""

    trust_coefficient: float = 1e-3
    """eta of `lars`: a layer's step is about this share of its weights' norm, times the learning
    rate."""

    max_gradient_norm: float | None = 3.0
    """Global gradient norm above which gradients are scaled down; None scales none."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "eps", "trust_coefficient", "max_gradient_norm"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ValueError(f"optim.{name} must be positive, got {value}")
        for name in ("final_learning_rate", "weight_decay", "final_weight_decay"):
            value = getattr(self, name)
            if value is not None and not value >= 0.0:
                raise ValueError(f"optim.{name} must not be negative, got {value}")
        for name in ("warmup_fraction", "momentum"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"optim.{name} must be in [0, 1), got {getattr(self, name)}")
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"optim.betas must be in [0, 1), got {self.betas}")
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"optim.final_learning_rate {self.final_learning_rate} is above "
                f"optim.learning_rate {self.learning_rate}"
            )
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0.0):
            raise ValueError(
                f"optim.nesterov is for optim.optimizer sgd with a positive optim.momentum, got "
                f"{self.optimizer} with {self.momentum}"
            )


def learning_rate(step: int, total_steps: int, config: OptimConfig) -> float:
    """Learning rate of optimizer step ``step``, counted from 0."""
    warmup_steps = round(config.warmup_fraction * total_steps)
    return warmup_cosine(
        step, total_steps, warmup_steps, config.learning_rate, config.final_learning_rate
    )


def weight_decay(step: int, total_steps: int, config: OptimConfig) -> float:
    """Weight decay of optimizer step ``step``, counted from 0.

    Source: Caron et al. 2021 (DINO), arXiv 2104.14294, section 3.2, for the half cosine.
    """
    if config.final_weight_decay is None:
        return config.weight_decay
    return half_cosine(step, total_steps, config.weight_decay, config.final_weight_decay)
