import pytest
import torch
from torch import nn

from pretrain.ema import EmaConfig, Target
from pretrain.fragments import whole
from pretrain.schedules import ema_tau


def test_the_target_follows_the_equation():
    network, online = nn.Linear(3, 2), nn.Linear(3, 2)
    expected = network.weight.detach().double().clone()
    target = Target(network, 0.9, total_steps=10)
    for step in range(10):
        target.set_pace(step)
        target.update(whole(online.named_parameters()))
        tau = ema_tau(step, 10, 0.9)
        expected = tau * expected + (1 - tau) * online.weight.detach().double()
    torch.testing.assert_close(network.weight.detach().double(), expected, rtol=1e-6, atol=1e-7)


def test_a_bfloat16_network_follows_a_float32_master():
    network, online = nn.Linear(64, 64), nn.Linear(64, 64)
    online.load_state_dict({name: value + 0.1 for name, value in network.state_dict().items()})
    before = network.weight.detach().clone()
    target = Target(network, 0.999, total_steps=10**6, working_dtype=torch.bfloat16)
    assert torch.equal(target.full_masters()["weight"], before)
    for step in range(200):
        target.set_pace(step)
        target.update(whole(online.named_parameters()))
    moved = (target.full_masters()["weight"] - before).mean().item()
    assert moved == pytest.approx(0.1 * (1 - 0.999**200), rel=0.02)
    assert network.weight.dtype == torch.bfloat16
    torch.testing.assert_close(network.weight, target.full_masters()["weight"].bfloat16())


def test_predictors_that_the_target_lacks_are_passed_over():
    target = Target(nn.Linear(3, 2), 0.99, total_steps=10)
    online = [*nn.Linear(3, 2).named_parameters(), ("predictor.weight", torch.zeros(2, 2))]
    target.set_pace(0)
    target.update(whole(online))


def test_a_missing_online_weight_is_named():
    target = Target(nn.Linear(3, 2), 0.99, total_steps=10)
    target.set_pace(0)
    with pytest.raises(ValueError, match="bias"):
        target.update(whole([("weight", torch.zeros(2, 3))]))


def test_a_target_without_a_pace_refuses_to_follow():
    network = nn.Linear(3, 2)
    before, target = network.weight.detach().clone(), Target(network, 0.99, total_steps=10)
    with pytest.raises(ValueError, match="no pace was set; call set_pace"):
        target.update(whole(nn.Linear(3, 2).named_parameters()))
    assert torch.equal(target.network.weight, before)


def test_a_saved_target_comes_back_bit_for_bit(tmp_path):
    target = Target(nn.Linear(3, 2), 0.99, total_steps=10)
    target.snapshot()(tmp_path)
    other = Target(nn.Linear(3, 2), 0.99, total_steps=10)
    other.load(tmp_path)
    assert torch.equal(other.network.weight, target.network.weight)


def test_another_networks_file_is_refused(tmp_path):
    Target(nn.Linear(3, 2), 0.99, 10).snapshot()(tmp_path)
    with pytest.raises(ValueError, match="not the state of this network: master of bias"):
        Target(nn.Linear(3, 2, bias=False), 0.99, 10).load(tmp_path)


def test_a_tau_that_is_given_is_kept_and_one_that_is_not_fits_the_run():
    assert EmaConfig(base_tau=0.999).tau_for(300, 64, 20) == 0.999
    # 700 steps may remember 70; the preset of 151 epochs at this batch would be 6,400.
    assert EmaConfig().tau_for(297, 64, 700) == pytest.approx(1 - 10 / 700)
    # 100 epochs of a million samples at a batch of 4096.
    assert EmaConfig().tau_for(1_000_000, 4096, 24_414) == pytest.approx(0.99, abs=1e-5)


def test_a_target_with_tau_one_never_moves():
    network, online = nn.Linear(3, 2), nn.Linear(3, 2)
    before = network.weight.detach().clone()
    target = Target(network, 1.0, total_steps=10)
    target.set_pace(0)
    target.update(whole(online.named_parameters()))
    assert torch.equal(network.weight, before)
