"""Each optimizer against a loop per layer, written from its paper's equations in float64."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pretrain.models.heads import GroupedGain, GroupedLinear
from pretrain.optim import (
    OptimConfig,
    build_optimizer,
    learning_rate,
    parameter_groups,
    set_learning_rate,
    set_weight_decay,
    weight_decay,
)

VECTORS = ("bias", "gain")


class Online(nn.Module):
    """Two towers and grouped predictors, as an online network has them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Module()
        self.backbone.encoders = nn.ModuleDict(
            {
                "text": nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3)),
                "image": nn.Conv2d(3, 2, 2),
            }
        )
        self.predictors = GroupedLinear(3, 4, 5)
        self.norm = GroupedGain(3, 4)


def layers(name, tensor):
    """The tensor cut into layers: a predictor each, else one."""
    return tensor.unbind() if name == "predictors.weight" else [tensor]


def adamw(state, w, g, rate, decay, config):
    state["t"] = state.get("t", 0) + 1
    b1, b2 = config.betas
    state["m"] = b1 * state.get("m", 0.0) + (1 - b1) * g
    state["v"] = b2 * state.get("v", 0.0) + (1 - b2) * g * g
    m, v = state["m"] / (1 - b1 ** state["t"]), state["v"] / (1 - b2 ** state["t"])
    return w - rate * decay * w - rate * m / (v.sqrt() + config.eps)


def sgd(state, w, g, rate, decay, config):
    g = g + decay * w
    state["v"] = config.momentum * state["v"] + g if "v" in state else g
    step = g + config.momentum * state["v"] if config.nesterov else state["v"]
    return w - rate * step


def adagrad(state, w, g, rate, decay, config):
    g = g + decay * w
    state["s"] = state.get("s", 0.0) + g * g
    return w - rate * g / (state["s"].sqrt() + config.eps)


def lars(state, w, g, rate, decay, config, adapts):
    trust = 1.0
    if adapts and w.norm() > 0 and g.norm() > 0:
        trust = config.trust_coefficient * w.norm() / (g.norm() + decay * w.norm())
    state["v"] = config.momentum * state.get("v", 0.0) + rate * trust * (g + decay * w)
    return w - state["v"]


ORACLES = {"adamw": adamw, "sgd": sgd, "adagrad": adagrad, "lars": lars}


def oracle_step(states, weights, gradients, rate, decay, config, scales):
    """One step of every layer; ``states`` is kept by (name, layer)."""
    stepped = {}
    for name, weight in weights.items():
        decays = name.rpartition(".")[2] not in VECTORS and weight.ndim >= 2
        scale = next((s for t, s in scales.items() if f".{t}." in name), 1.0)
        rest = (decays,) if config.optimizer == "lars" else ()
        parts = [
            ORACLES[config.optimizer](
                states.setdefault((name, i), {}), w, g, rate * scale, decay * decays, config, *rest
            )
            for i, (w, g) in enumerate(
                zip(layers(name, weight), layers(name, gradients[name]), strict=True)
            )
        ]
        stepped[name] = torch.stack(parts) if name == "predictors.weight" else parts[0]
    return stepped


@pytest.mark.parametrize(
    "config",
    [
        OptimConfig(optimizer="adamw"),
        OptimConfig(optimizer="sgd"),
        OptimConfig(optimizer="sgd", nesterov=True),
        OptimConfig(optimizer="adagrad"),
        OptimConfig(optimizer="lars", trust_coefficient=0.02),
    ],
    ids=lambda config: f"{config.optimizer}{'-nesterov' * config.nesterov}",
)
def test_every_optimizer_follows_its_papers_equations_layer_by_layer(config):
    module, scales, states = Online().double(), {"text": 0.25}, {}
    optimizer = build_optimizer(module, config, scales)
    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        rate, decay = 0.1 / (1 + step), 0.05 * (1 + step)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        weights = {name: p.detach().clone() for name, p in module.named_parameters()}
        gradients = {name: p.grad for name, p in module.named_parameters()}
        set_learning_rate(optimizer.param_groups, rate)
        set_weight_decay(optimizer.param_groups, decay)
        optimizer.step()
        expected = oracle_step(states, weights, gradients, rate, decay, config, scales)
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(
                parameter.detach(), expected[name], rtol=1e-10, atol=1e-12, msg=f"{name} {step}"
            )


def test_lars_moves_weights_that_start_at_zero():
    module = nn.Linear(3, 2, bias=False)
    nn.init.zeros_(module.weight)
    optimizer = build_optimizer(module, OptimConfig(optimizer="lars", learning_rate=0.5))
    module.weight.grad = torch.ones(2, 3)
    optimizer.step()
    torch.testing.assert_close(module.weight.detach(), torch.full((2, 3), -0.5))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars", "adagrad"])
def test_a_parameter_without_gradient_stays_where_it_is(name):
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    optimizer = build_optimizer(module, OptimConfig(optimizer=name))
    before = module[1].weight.detach().clone()
    module[0](torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.equal(module[1].weight, before)


def test_biases_and_gains_of_grouped_heads_do_not_decay():
    module = Online()
    names = {parameter: name for name, parameter in module.named_parameters()}
    decaying = {
        names[p] for group in parameter_groups(module) if group["decays"] for p in group["params"]
    }
    assert decaying == {
        "backbone.encoders.text.0.weight",
        "backbone.encoders.image.weight",
        "predictors.weight",
    }


def test_a_frozen_tower_is_in_no_group_and_every_other_parameter_in_one():
    module = Online()
    module.backbone.encoders["text"].requires_grad_(False)
    grouped = [p for group in parameter_groups(module, {"text": 0.1}) for p in group["params"]]
    expected = [p for p in module.parameters() if p.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, expected))


def test_a_rate_for_a_tower_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="'video'"):
        parameter_groups(Online(), {"video": 0.1})


def test_nesterov_without_sgd_is_refused():
    with pytest.raises(ValueError, match=r"optim\.nesterov"):
        OptimConfig(optimizer="adamw", nesterov=True)


def test_a_final_rate_above_the_peak_is_refused():
    with pytest.raises(ValueError, match=r"optim\.final_learning_rate"):
        OptimConfig(learning_rate=1e-3, final_learning_rate=1e-2)


@given(
    st.integers(20, 10**5),
    st.floats(1e-6, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.9),
)
def test_the_learning_rate_ends_at_its_final_value_and_never_leaves_its_range(
    total, peak, share, warmup
):
    config = OptimConfig(
        learning_rate=peak, final_learning_rate=share * peak, warmup_fraction=warmup
    )
    values = [learning_rate(total * k // 20, total, config) for k in range(21)]
    assert all(0.0 <= value <= peak * (1 + 1e-9) for value in values)
    assert math.isclose(values[-1], share * peak, rel_tol=1e-9, abs_tol=1e-12)
    after = [v for k, v in enumerate(values) if total * k // 20 >= round(warmup * total)]
    assert all(a >= b - 1e-12 for a, b in pairwise(after))


@settings(max_examples=30)
@given(st.integers(1, 10**5), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_weight_decay_goes_from_its_first_to_its_final_value(total, first, final):
    config = OptimConfig(weight_decay=first, final_weight_decay=final)
    values = [weight_decay(total * k // 20, total, config) for k in range(21)]
    assert math.isclose(values[0], first, abs_tol=1e-12)
    assert math.isclose(values[-1], final, abs_tol=1e-12)
    rising = final >= first
    assert all((b - a >= -1e-12) == rising or abs(b - a) < 1e-12 for a, b in pairwise(values))


def test_the_weight_decay_is_constant_unless_a_final_value_is_given():
    assert weight_decay(77, 100, OptimConfig(weight_decay=0.3)) == 0.3
