"""The real engine on one gloo rank in this process, and once on two ranks."""

import math
import os
import socket

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn

from launch.preemption import exit_code_kept
from pretrain.engine import Engine, EngineSettings, join_process_group, leave_process_group
from pretrain.optim import OptimConfig, build_optimizer, set_learning_rate

pytestmark = pytest.mark.usefixtures("one_rank")

MODES = [(stage, precision) for stage in range(4) for precision in ("fp32", "bf16")]
CASES = [(*mode, name) for mode in MODES for name in ("adamw", "sgd", "adagrad")] + [
    (0, "fp32", "lars"),
    (0, "bf16", "lars"),
]
GOOD = torch.linspace(-1.0, 2.0, 8).view(2, 4)
BAD = torch.zeros(2, 4)
"""The root of 0 is 0, its slope infinite, and infinity times 0 is no number."""


class Net(nn.Module):
    """Two towers; the loss is finite at 0, the gradient of the text tower is not."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Module()
        self.backbone.encoders = nn.ModuleDict({"text": nn.Linear(4, 3), "image": nn.Linear(4, 3)})

    def forward(self, rows):
        text, image = (tower(rows).float() for tower in self.backbone.encoders.values())
        return image.square().mean() + (rows.float().sum() * text.sum()).abs().sqrt()


def rank_environment(rank, world_size, port):
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def engine_for(stage, precision, config, scales=None, module=None, accumulation_steps=1):
    module = module or Net()
    return Engine(
        module,
        build_optimizer(module, config, scales),
        EngineSettings(
            micro_samples=2,
            accumulation_steps=accumulation_steps,
            max_gradient_norm=config.max_gradient_norm,
            precision=precision,
            zero_stage=stage,
        ),
    )


def train(engine, *batches):
    """One micro-batch after another; whether the last one changed weights."""
    dtype = next(engine.module.parameters()).dtype
    applied = False
    for rows in batches:
        engine.backward(engine.forward(rows.to(dtype)))
        applied = engine.step()
    return applied


def masters(engine):
    return {name: value.clone() for name, value in engine.master_parameters()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def distance(one, other):
    return math.sqrt(sum((one[name] - other[name]).square().sum().item() for name in one))


@pytest.mark.parametrize(("stage", "precision", "name"), CASES)
def test_after_a_gradient_that_is_not_finite_training_goes_on_as_if_it_never_came(
    stage, precision, name
):
    config = OptimConfig(optimizer=name, learning_rate=0.1)
    met, spared = (engine_for(stage, precision, config) for _ in range(2))
    assert train(met, GOOD)
    before = masters(met)
    assert not train(met, BAD)
    assert not math.isfinite(met.gradient_norm())
    assert equal(masters(met), before)
    assert train(met, GOOD)
    assert train(spared, GOOD, GOOD)
    assert equal(masters(met), masters(spared))
    assert not equal(masters(met), before)


@pytest.mark.parametrize(("stage", "precision"), MODES)
def test_one_bad_micro_batch_spoils_the_whole_step_and_no_weight(stage, precision):
    engine = engine_for(stage, precision, OptimConfig(), accumulation_steps=2)
    before = masters(engine)
    assert not train(engine, BAD, GOOD)
    assert equal(masters(engine), before)
    assert train(engine, GOOD, GOOD)


def test_the_parameters_with_a_bad_gradient_are_named_and_nothing_is_accumulated():
    engine = engine_for(0, "fp32", OptimConfig())
    assert engine.non_finite_gradients(engine.module(GOOD)) == []
    assert engine.non_finite_gradients(engine.module(BAD)) == [
        "backbone.encoders.text.weight",
        "backbone.encoders.text.bias",
    ]
    assert all(parameter.grad is None for parameter in engine.module.parameters())


@pytest.mark.parametrize(("stage", "precision"), MODES)
def test_gradients_are_scaled_down_to_the_limit_and_left_whole_without_one(stage, precision):
    for limit in (None, 0.5):
        config = OptimConfig(
            optimizer="sgd", learning_rate=0.1, weight_decay=0.0, max_gradient_norm=limit
        )
        engine = engine_for(stage, precision, config)
        before = masters(engine)
        assert train(engine, GOOD)
        norm = engine.gradient_norm()
        assert norm > 0.5
        moved = distance(masters(engine), before)
        assert moved == pytest.approx(
            0.1 * (limit or norm), rel=1e-2 if precision == "bf16" else 1e-5
        )


@pytest.mark.parametrize("name", ["adamw", "sgd", "adagrad"])
def test_sharding_the_optimizer_changes_no_step(name):
    config = OptimConfig(optimizer=name, learning_rate=0.1, weight_decay=0.1)
    for precision in ("fp32", "bf16"):
        whole, *sharded = (
            engine_for(stage, precision, config, {"text": 0.5}) for stage in range(4)
        )
        for _ in range(3):
            assert train(whole, GOOD)
            for engine in sharded:
                assert train(engine, GOOD)
                for (name, one), (_, other) in zip(
                    whole.master_parameters(), engine.master_parameters(), strict=True
                ):
                    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("stage", "precision"), MODES)
def test_a_towers_lower_rate_holds_and_comes_back_from_a_checkpoint(stage, precision, tmp_path):
    config = OptimConfig(
        optimizer="sgd", learning_rate=1.0, weight_decay=0.0, momentum=0.0, max_gradient_norm=None
    )
    plain, slowed = (
        engine_for(stage, precision, config, scales) for scales in ({}, {"text": 0.25})
    )
    steps = []
    for engine in (plain, slowed):
        set_learning_rate(engine.parameter_groups, 0.1)
        before = masters(engine)
        assert train(engine, GOOD)
        steps.append({name: value - before[name] for name, value in masters(engine).items()})
    for name, step in steps[0].items():
        scale = 0.25 if ".text." in name else 1.0
        torch.testing.assert_close(steps[1][name], scale * step, rtol=1e-5, atol=1e-6)

    slowed.snapshot()(tmp_path)
    resumed = engine_for(stage, precision, config, {"text": 0.25})
    resumed.load(tmp_path)
    for engine in (slowed, resumed):
        set_learning_rate(engine.parameter_groups, 0.05)
        assert train(engine, GOOD)
    assert equal(masters(slowed), masters(resumed))


@pytest.mark.parametrize(("stage", "precision"), MODES)
def test_a_frozen_tower_stays_and_its_master_is_not_rounded(stage, precision):
    module = Net()
    module.backbone.encoders["text"].requires_grad_(False)
    frozen = {n: p.clone() for n, p in module.named_parameters() if not p.requires_grad}
    engine = engine_for(stage, precision, OptimConfig(learning_rate=0.1), module=module)
    before = masters(engine)
    assert train(engine, GOOD)
    after = masters(engine)
    assert equal({name: after[name] for name in frozen}, frozen)
    assert not any(torch.equal(after[name], before[name]) for name in after.keys() - frozen.keys())


def test_every_group_of_ranks_waits_as_long_as_the_one_that_all_joined():
    engine_for(1, "fp32", OptimConfig())
    cpu = torch.device("cpu")
    groups = torch.distributed.distributed_c10d._world.pg_map
    waits = {group._get_backend(cpu).options._timeout for group in groups}
    assert len(groups) > 1  # DeepSpeed has its own
    assert len(waits) == 1


@exit_code_kept()
def run_rank(rank, port):
    """One of two ranks, of which the second meets the bad batch."""
    os.environ.update(rank_environment(rank, 2, port))
    join_process_group()
    for stage, precision in MODES:
        engine = engine_for(stage, precision, OptimConfig(learning_rate=0.1))
        assert train(engine, GOOD + rank)
        before = masters(engine)
        assert not train(engine, BAD if rank else GOOD)
        assert equal(masters(engine), before)
        culprits = engine.non_finite_gradients(
            engine.module((BAD if rank else GOOD).to(next(engine.module.parameters()).dtype))
        )
        assert bool(culprits) == bool(rank)
        assert train(engine, GOOD + rank)
        for value in masters(engine).values():
            assert engine.agree(bool(torch.allclose(engine.sum_over_ranks(value), 2 * value)))
    leave_process_group()


def test_a_bad_gradient_on_one_rank_stops_the_step_on_both():
    ranks = mp.spawn(run_rank, (free_port(),), nprocs=2, join=False)
    for _ in range(120):
        if ranks.join(timeout=1.0):
            return
    for process in ranks.processes:
        process.kill()
    pytest.fail("two ranks did not end within two minutes")
