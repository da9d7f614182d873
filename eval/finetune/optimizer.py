"""Name -> optimizer over two learning rates, and the schedule of both."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from eval.finetune.config import FineTuneConfig, OptimizerName
from eval.finetune.model import TunedModel
from pretrain.optim import Adagrad, set_learning_rate, set_weight_decay
from pretrain.schedules import warmup_cosine

Groups = list[dict[str, Any]]


def build_optimizer(model: TunedModel, config: FineTuneConfig) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names, over head and, unless its rate is 0, backbone.

    Each group has its peak rate as ``lr_scale``, and ``decays``: biases, gains of norms and other
    vectors do not.
    """
    groups = _groups(model.head.named_parameters(), config.head_lr)
    if config.backbone_lr > 0.0:
        groups += _groups(model.trained_parameters().items(), config.backbone_lr)
    set_weight_decay(groups, config.weight_decay)
    set_learning_rate(groups, 1.0)
    return _BUILDERS[config.optimizer](groups, config)


def set_rates(
    optimizer: torch.optim.Optimizer, step: int, total_steps: int, config: FineTuneConfig
) -> None:
    """Give every group its learning rate of optimizer step ``step``, counted from 0."""
    warmup_steps = round(config.warmup_fraction * total_steps)
    set_learning_rate(optimizer.param_groups, warmup_cosine(step, total_steps, warmup_steps, 1.0))


def _groups(named: Iterable[tuple[str, nn.Parameter]], peak: float) -> Groups:
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in named:
        parts[parameter.ndim >= 2 and name.rpartition(".")[2] != "bias"].append(parameter)
    return [
        {"params": parameters, "lr_scale": peak, "decays": decays}
        for decays, parameters in parts.items()
        if parameters
    ]


def _adamw(groups: Groups, config: FineTuneConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True)


def _adagrad(groups: Groups, config: FineTuneConfig) -> torch.optim.Optimizer:
    return Adagrad(groups, lr=config.head_lr)


def _sgd(groups: Groups, config: FineTuneConfig) -> torch.optim.Optimizer:
    nesterov = config.optimizer == "nesterov"
    return torch.optim.SGD(groups, momentum=config.momentum, nesterov=nesterov)


_BUILDERS: Mapping[OptimizerName, Callable[[Groups, FineTuneConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adagrad": _adagrad,
    "sgd": _sgd,
    "nesterov": _sgd,
}
