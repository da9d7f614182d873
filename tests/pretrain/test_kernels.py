"""What the fused operations promise on any device; the kernels are in test_kernels_gpu.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pretrain.kernels import (
    AdamwEma,
    FlatPartition,
    LarsEma,
    Layers,
    TensorTable,
    adamw_ema_,
    adamw_numbers,
    ema_numbers,
    ema_update_,
    fused_all_pairs_loss,
    lars_ema_,
    lars_numbers,
    using,
)

HALF = torch.tensor(ema_numbers(0.5))
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device"
)  # all else runs without
def test_every_kernel_stays_within_its_error_budget_on_a_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "kernels_numerics.py", "--out", tmp_path / "numerics.json"],
        env=os.environ | {"PYTHONPATH": str(BENCHMARKS.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_table_is_made_anew_only_when_a_tensor_moved():
    tensors = [torch.zeros(5), torch.zeros(9)]
    table = TensorTable()
    rows = table.rows((tensors, tensors, tensors), block=4)
    assert table.rows((tensors, tensors, tensors), block=4) is rows
    moved = table.rows((tensors, tensors, [torch.zeros(5), torch.zeros(9)]), block=4)
    assert moved is not rows
    assert moved.blocks is rows.blocks
    grown = table.rows([[torch.zeros(9), torch.zeros(9)]] * 3, block=4)
    assert len(grown.blocks) == 6


def test_a_table_gives_every_tensor_its_own_blocks():
    tensors = [torch.zeros(5), torch.zeros(0), torch.zeros(8)]
    rows = TensorTable().rows((tensors, tensors), block=4)
    assert rows.blocks.tolist() == [[0, 0], [0, 1], [2, 0], [2, 1]]
    assert rows.tensors[:, 2].tolist() == [5, 0, 8]
    assert rows.starts.tolist() == [0, 2, 2, 4]


def test_a_tensor_that_is_not_contiguous_is_refused():
    turned = [torch.zeros(3, 4).T]
    with pytest.raises(ValueError, match="not contiguous"):
        TensorTable().rows((turned, turned), block=4)


def test_the_distance_is_that_of_the_weights_before_the_update():
    targets, onlines = [torch.zeros(3), torch.ones(2)], [torch.ones(3), torch.full((2,), 3.0)]
    distance = torch.zeros(())
    ema_update_(targets, onlines, HALF, distance=distance)
    assert distance.item() == pytest.approx(3 * 1.0 + 2 * 4.0)
    ema_update_([], [], HALF, distance=distance)
    assert distance.item() == 0.0


def test_a_bfloat16_master_is_refused():
    rows = [torch.zeros(4, dtype=torch.bfloat16)]
    with pytest.raises(ValueError, match="float32"):
        ema_update_(rows, rows, HALF)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="do not match"):
        ema_update_([torch.zeros(4)], [torch.zeros(5)], HALF)


def test_online_weights_of_several_types_are_refused():
    mixed = [torch.zeros(4), torch.zeros(4, dtype=torch.bfloat16)]
    with pytest.raises(ValueError, match="several dtypes"):
        ema_update_([torch.zeros(4), torch.zeros(4)], mixed, HALF)


def test_a_tau_outside_zero_to_one_is_refused():
    for tau in (1.5, -0.1):
        with pytest.raises(ValueError, match="tau"):
            ema_numbers(tau)


def adamw_step(**changes):
    usual = {"learning_rate": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1, "step": 1, "tau": 0.9}
    return adamw_numbers(**usual | changes)


def test_a_target_that_hardly_moves_moves_by_the_right_amount():
    targets, onlines = [torch.zeros(3)], [torch.ones(3)]
    ema_update_(targets, onlines, torch.tensor(ema_numbers(1.0 - 1e-7)))
    # In float32 a tau near 1 is off by half of 1.2e-7.
    torch.testing.assert_close(targets[0], torch.full((3,), 1e-7), rtol=1e-6, atol=0.0)


def test_ten_steps_equal_those_of_torch_and_an_average_after_each():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(50))
    flat = FlatPartition(
        parameters=weight.detach().clone(),
        gradients=torch.zeros(50),
        means=torch.zeros(50),
        squares=torch.zeros(50),
        targets=torch.zeros(50),
        target_copies=torch.zeros(50, dtype=torch.bfloat16),
    )
    optimizer = torch.optim.AdamW([weight], lr=0.1, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.1)
    target = torch.zeros(50)
    for step in range(1, 11):
        flat.gradients.normal_()
        weight.grad = flat.gradients.clone()
        optimizer.step()
        target.lerp_(weight.detach(), 0.1)
        changing = torch.tensor(adamw_step(step=step))
        adamw_ema_([flat], AdamwEma(changing=changing, betas=(0.9, 0.99), eps=1e-6))
    torch.testing.assert_close(flat.parameters, weight.detach())
    torch.testing.assert_close(flat.targets, target)
    torch.testing.assert_close(flat.target_copies, target.bfloat16(), rtol=2**-7, atol=1e-6)


def test_partitions_that_do_not_fit_are_refused():
    flat = dict.fromkeys(("parameters", "gradients", "means", "squares"), torch.zeros(4))
    for changes, message in (
        ({"means": torch.zeros(5)}, "means"),
        ({"squares": torch.zeros(4, dtype=torch.bfloat16)}, "squares"),
        ({"target_copies": torch.zeros(4)}, "without targets"),
    ):
        with pytest.raises(Exception, match=message):
            FlatPartition(**flat | changes)


def test_numbers_of_no_step_are_refused():
    for changes in ({"betas": (0.9, 1.0)}, {"step": 0}, {"tau": 1.1}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            adamw_step(**changes)


def some_layers(**changes):
    usual = {
        name: [torch.ones(3), torch.full((2,), 2.0)]
        for name in ("parameters", "gradients", "velocities")
    }
    return Layers(**usual | changes)


def lars_step(tau=1.0, momentum=0.5):
    changing = torch.tensor(lars_numbers(0.5, weight_decay=1.0, tau=tau))
    return LarsEma(changing=changing, momentum=momentum, trust_coefficient=0.1)


def test_a_layer_moves_by_its_own_rate_and_the_target_follows_where_it_went():
    layers = some_layers(
        targets=[torch.zeros(3), torch.zeros(2)],
        parameter_copies=[torch.zeros(3).bfloat16(), torch.zeros(2).bfloat16()],
        target_copies=[torch.zeros(3).bfloat16(), torch.zeros(2).bfloat16()],
    )
    lars_ema_(layers, lars_step(tau=0.75))
    # As |p| = |g|, trust is 0.1 / 2; the velocity 0.5 v + 0.5 * 0.05 * (g + p).
    for layer, value in enumerate((1.0, 2.0)):
        moved = value - (0.5 * value + 0.025 * 2.0 * value)
        torch.testing.assert_close(layers.parameters[layer].mean(), torch.tensor(moved))
        torch.testing.assert_close(layers.targets[layer].mean(), torch.tensor(0.25 * moved))
        for copies, of in (("parameter_copies", "parameters"), ("target_copies", "targets")):
            rounded = getattr(layers, of)[layer].bfloat16()
            assert torch.equal(getattr(layers, copies)[layer], rounded)


def test_layers_that_do_not_fit_are_refused():
    halves = [torch.ones(3).bfloat16(), torch.ones(2).bfloat16()]
    for changes, message in (
        ({"gradients": [torch.ones(3)]}, "gradients do not match"),
        ({"velocities": halves}, "velocities are torch.bfloat16"),
        ({"gradients": [torch.ones(3), torch.ones(2).bfloat16()]}, "several dtypes"),
        ({"target_copies": halves}, "without targets"),
    ):
        with pytest.raises(ValueError, match=message):
            some_layers(**changes)


def test_numbers_of_no_step_of_lars_are_refused():
    for changes in ({"momentum": 1.0}, {"tau": -0.1}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            lars_step(**changes)


def test_the_lars_kernel_refuses_dtypes_that_it_does_not_know():
    doubles = [torch.ones(3).double(), torch.ones(2).double()]
    layers = Layers(parameters=doubles, gradients=doubles, velocities=doubles)
    with using("fused"), pytest.raises(ValueError, match=r"not torch\.float64"):
        lars_ema_(layers, lars_step())


def test_the_loss_kernel_refuses_what_it_cannot_do():
    rows, weights = torch.randn(1, 2, 4, 8), torch.ones(1, 4)
    with pytest.raises(ValueError, match="float64"):
        fused_all_pairs_loss(rows.double(), rows.double(), weights, 1e-12)
    with pytest.raises(ValueError, match="weights must be float32"):
        fused_all_pairs_loss(rows, rows, weights.double(), 1e-12)
    with pytest.raises(ValueError, match="predictions alone"):
        fused_all_pairs_loss(rows, rows.clone().requires_grad_(), weights, 1e-12)
    with pytest.raises(ValueError, match="no rows"):
        fused_all_pairs_loss(rows[:, :, :0], rows[:, :, :0], weights[:, :0], 1e-12)
