"""In: a module and the settings; out: an optimizer, and its schedules' values by step.

The loop sets learning rate and weight decay before every step; schedules are pure functions.
This package must not know: DeepSpeed, ranks, the objective.
"""

from pretrain.optim.adagrad import Adagrad
from pretrain.optim.build import build_optimizer
from pretrain.optim.config import OptimConfig, learning_rate, weight_decay
from pretrain.optim.groups import parameter_groups, set_learning_rate, set_weight_decay
from pretrain.optim.lars import Lars

__all__ = [
    "Adagrad",
    "Lars",
    "OptimConfig",
    "build_optimizer",
    "learning_rate",
    "parameter_groups",
    "set_learning_rate",
    "set_weight_decay",
    "weight_decay",
]
