"""Name -> optimizer."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from pretrain.optim.adagrad import Adagrad
from pretrain.optim.config import OptimConfig, OptimizerName
from pretrain.optim.groups import parameter_groups, set_learning_rate, set_weight_decay
from pretrain.optim.lars import Lars

Groups = list[dict[str, Any]]


def build_optimizer(
    module: nn.Module, config: OptimConfig, tower_scales: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names, over `parameter_groups`.

    Args:
        module: The online network.
        config: Its peak learning rate and first weight decay are in the groups.
        tower_scales: Modality -> share of the learning rate of its encoder.
    """
    groups = parameter_groups(module, tower_scales)
    set_learning_rate(groups, config.learning_rate)
    set_weight_decay(groups, config.weight_decay)
    return _BUILDERS[config.optimizer](groups, config)


def _adamw(groups: Groups, config: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True
    )


def _sgd(groups: Groups, config: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=True,
    )


def _lars(groups: Groups, config: OptimConfig) -> torch.optim.Optimizer:
    return Lars(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        trust_coefficient=config.trust_coefficient,
    )


def _adagrad(groups: Groups, config: OptimConfig) -> torch.optim.Optimizer:
    return Adagrad(groups, lr=config.learning_rate, eps=config.eps)


_BUILDERS: dict[OptimizerName, Callable[[Groups, OptimConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
    "lars": _lars,
    "adagrad": _adagrad,
}
