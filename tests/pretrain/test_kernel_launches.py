"""What a step's kernels are launched with: a captured CUDA graph plays the same launches again."""

import copy

import pytest
import torch
from torch import nn

from pretrain.ema import Target
from pretrain.fragments import whole
from pretrain.kernels import (
    AdamwEma,
    FlatPartition,
    StepNumbers,
    _adamw_triton,
    _ema_triton,
    _lars_triton,
    adamw_ema_,
    adamw_numbers,
    using,
)
from pretrain.optim import OptimConfig, build_optimizer, set_learning_rate, set_weight_decay


class Launches:
    """Stands in for a kernel: remembers what it was launched with."""

    def __init__(self):
        self.seen = []

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.seen.append(
            (grid, [told(argument) for argument in arguments], options)
        )


def told(argument):
    return argument.data_ptr() if isinstance(argument, torch.Tensor) else argument


@pytest.fixture
def launches(monkeypatch):
    """What is launched, kernels together, in their order."""
    found = Launches()
    for module, name in (
        (_ema_triton, "ema_kernel"),
        (_adamw_triton, "adamw_ema_kernel"),
        (_lars_triton, "norms_kernel"),
        (_lars_triton, "lars_kernel"),
    ):
        monkeypatch.setattr(module, name, found)
    with using("fused"):
        yield found.seen


def test_the_target_follows_by_the_same_launch_at_every_tau(launches):
    network = nn.Linear(3, 2)
    online, target = copy.deepcopy(network), Target(network, 0.9, total_steps=10)
    for step in (0, 9):
        target.set_pace(step)
        target.update(whole(online.named_parameters()))
    assert target.tau(0) != target.tau(9)
    assert len(launches) == 2
    assert launches[0] == launches[1]


def test_lars_takes_the_same_launches_at_every_learning_rate_and_decay(launches, monkeypatch):
    # The norms' sums have a new place at each step here; a graph gives them its own.
    sums = torch.empty(64)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, size: sums[:size])
    module = nn.Linear(3, 2)
    optimizer = build_optimizer(module, OptimConfig(optimizer="lars"))
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    for rate, decay in ((0.1, 0.0), (0.2, 0.05)):
        set_learning_rate(optimizer.param_groups, rate)
        set_weight_decay(optimizer.param_groups, decay)
        optimizer.step()
    assert len(launches) == 2 * 3  # a norm for the matrix alone
    assert launches[:3] == launches[3:]


def test_adamw_takes_the_same_launch_at_every_step(launches):
    rows = torch.zeros(4, 8)
    flat = FlatPartition(parameters=rows[0], gradients=rows[1], means=rows[2], squares=rows[3])
    numbers, betas = StepNumbers(4, rows), (0.9, 0.99)
    for step, rate in ((1, 0.1), (2, 0.2)):
        changing = numbers.set(adamw_numbers(rate, betas, 0.1, step, tau=0.9 + 0.01 * step))
        adamw_ema_([flat], AdamwEma(changing=changing, betas=betas, eps=1e-6))
    assert launches[0] == launches[1]


def test_numbers_stay_where_they_are_and_are_rounded_once():
    numbers = StepNumbers(2, torch.zeros(1))
    first = numbers.set((0.1, 1e-9))
    assert first.tolist() == pytest.approx([0.1, 1e-9], rel=2**-24)
    assert numbers.set((0.2, 2e-9)).data_ptr() == first.data_ptr()
    assert first.tolist() == pytest.approx([0.2, 2e-9], rel=2**-24)
