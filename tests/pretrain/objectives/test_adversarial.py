import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.objectives.adversarial import (
    DIRECTIONS,
    Adversarial,
    AdversarialConfig,
    discriminator_loss,
    reversed_gradient,
)
from pretrain.objectives.content import ContentConfig
from pretrain.objectives.reconstruction import RECONSTRUCTION_NEEDS, ReconstructionConfig

SUBSETS = list(product((True, False), repeat=3))
SMALL = {"hidden_size": 32, "content": ContentConfig(image_pixels=4, audio_mels=4, audio_frames=4)}
OBJECTIVE = Adversarial(
    AdversarialConfig(reconstruction=ReconstructionConfig(**SMALL), hidden_size=16)
)
GAME_ALONE = Adversarial(
    AdversarialConfig(
        reconstruction=ReconstructionConfig(own_weight=0.0, fused_weight=0.0, **SMALL),
        adversarial_weight=1.0,
        ramp_fraction=0.0,
        hidden_size=16,
    )
)


def scales(views):
    return 1.0 / OBJECTIVE.available(views).sum(1).clamp(min=1.0)


def loss_of(networks, views, objective=OBJECTIVE, given_scales=None):
    chosen = scales(views) if given_scales is None else given_scales
    return networks.online(views, networks.target(views), chosen, objective.weights(50, 100))


def test_a_reversed_gradient_keeps_the_value_and_turns_the_sign():
    code = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(5, 4)
    assert torch.equal(reversed_gradient(code), code)
    (reversed_gradient(code) * weight).sum().backward()
    torch.testing.assert_close(code.grad, -weight)


def test_discriminators_descend_the_loss_that_generators_and_encoders_climb(backbone, make_views):
    networks, views = GAME_ALONE.networks(backbone), make_views([(True, True, True)] * 4)
    online = networks.online
    loss_of(networks, views, GAME_ALONE).loss.backward()
    signs = {"discriminators": 1.0, "generators": -1.0, "backbone.encoders": -1.0}
    players = {n: p for n, p in online.named_parameters() if n.startswith(tuple(signs))}
    plain = torch.autograd.grad(game_by_hand(online, views), list(players.values()))
    for (name, parameter), gradient in zip(players.items(), plain, strict=True):
        sign = next(sign for start, sign in signs.items() if name.startswith(start))
        torch.testing.assert_close(parameter.grad, sign * gradient, atol=1e-6, rtol=1e-3)
        assert gradient.abs().max() > 0.0, name


def game_by_hand(online, views):
    """``-log D(x) - log(1 - D(G(z)))``, mean over directions, views and rows; no reversal."""
    encoded = online.backbone.embed(views.flattened())
    codes = {name: value.pooled for name, value in encoded.items()}
    losses = []
    for a, b in DIRECTIONS:
        real = online.discriminators[b](codes[b].detach()).sigmoid()
        generated = online.discriminators[b](online.generators[f"{a}_to_{b}"](codes[a])).sigmoid()
        losses.append((-real.log() - (1.0 - generated).log()).mean())
    return torch.stack(losses).mean()


def test_one_step_of_either_player_moves_the_loss_its_own_way(backbone, make_views):
    networks, views = GAME_ALONE.networks(backbone), make_views([(True, True, True)] * 6)
    online = networks.online
    for players, way in ((online.discriminators, -1), (online.generators, +1)):
        online.zero_grad()
        report = loss_of(networks, views, GAME_ALONE)
        report.loss.backward()
        before = [parameter.detach().clone() for parameter in players.parameters()]
        torch.optim.SGD(players.parameters(), lr=0.05).step()
        moved = loss_of(networks, views, GAME_ALONE).loss - report.loss
        assert math.copysign(1.0, moved.item()) == way
        for parameter, value in zip(players.parameters(), before, strict=True):
            parameter.data.copy_(value)


def test_the_loss_of_a_discriminator_that_cannot_tell_is_twice_log_two():
    zeros, large = torch.zeros(2, 3, 1), torch.full((2, 3, 1), 200.0)
    torch.testing.assert_close(
        discriminator_loss(zeros, zeros), torch.full((2, 3), 2.0 * math.log(2.0))
    )
    assert (discriminator_loss(large, -large) == 0.0).all()
    assert discriminator_loss(-large, large).isfinite().all()
    assert discriminator_loss(zeros.bfloat16(), zeros.bfloat16()).dtype == torch.float32


def test_each_direction_is_the_equation_over_rows_with_both(backbone, make_views):
    networks, views = OBJECTIVE.networks(backbone), make_views(SUBSETS)
    report = loss_of(networks, views)
    codes, online = report.stages["encoder"], networks.online
    for index, (a, b) in enumerate(DIRECTIONS):
        columns = [["text", "image", "audio"].index(name) for name in (a, b)]
        rows = views.present[:, columns].all(1)
        real = online.discriminators[b](codes[b][:, rows]).sigmoid()
        generated = online.generators[f"{a}_to_{b}"](codes[a][:, rows])
        told = online.discriminators[b](generated).sigmoid()
        expected = -(real.log() + (1.0 - told).log()).mean()
        found = report.by_term[len(RECONSTRUCTION_NEEDS) + index]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_online_parameter_gets_a_gradient_whatever_is_missing(backbone, make_views, subset):
    networks = OBJECTIVE.networks(backbone)
    report = loss_of(networks, make_views([subset] * 3))
    report.loss.backward()
    trained = [(n, p) for n, p in networks.online.named_parameters() if p.requires_grad]
    assert [name for name, p in trained if p.grad is None] == []
    assert all(p.grad.isfinite().all() for _, p in trained)
    absent = [m for m, there in zip(("text", "image", "audio"), subset, strict=True) if not there]
    for name, value in zip(OBJECTIVE.terms, report.by_term.tolist(), strict=True):
        assert value == 0.0 if any(m in name for m in absent) else value > 0.0


@given(seed=st.integers(0, 2**16))
@settings(max_examples=5, deadline=None)
def test_what_missing_modalities_hold_changes_nothing(make_backbone, make_views, seed):
    networks = OBJECTIVE.networks(make_backbone())
    views, other = make_views(SUBSETS, seed), make_views(SUBSETS, seed + 1)
    expected = loss_of(networks, views).by_term
    for index, names in enumerate((("token_ids", "token_mask"), ("image",), ("log_mel",))):
        missing = ~views.present[:, index]
        for name in names:
            getattr(views, name)[:, missing] = getattr(other, name)[:, missing]
    torch.testing.assert_close(loss_of(networks, views).by_term, expected)


def test_micro_batches_add_up_to_the_whole_batch(backbone, make_views):
    networks, views = OBJECTIVE.networks(backbone), make_views(SUBSETS)
    chosen = scales(views)
    whole = loss_of(networks, views).by_term
    parts = [
        loss_of(networks, views.rows(s, s + 2), given_scales=chosen).by_term for s in (0, 2, 4, 6)
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_the_anchor_keeps_texts_apart_that_the_game_alone_makes_one(make_backbone, make_views):
    views = make_views([(True, True, True)] * 8)
    start, anchored = played(OBJECTIVE, make_backbone(), views)
    _, alone = played(GAME_ALONE, make_backbone(), views)
    num = len(RECONSTRUCTION_NEEDS)
    assert (anchored.by_term[:num] < 0.9 * start.by_term[:num]).all()
    at_first, with_anchor, without = (
        spread(report.stages["encoder"]["text"]) for report in (start, anchored, alone)
    )
    assert without < 0.5 * at_first < at_first < with_anchor


def played(objective, backbone, views, num_steps=30):
    """Reports before and after some steps on one batch."""
    torch.manual_seed(0)
    networks = objective.networks(backbone)
    optimizer = torch.optim.AdamW(networks.online.parameters(), lr=3e-3)
    reports = [loss_of(networks, views, objective)]
    for _ in range(num_steps):
        optimizer.zero_grad()
        reports[-1].loss.backward()
        optimizer.step()
        reports.append(loss_of(networks, views, objective))
    return reports[0], reports[-1]


def spread(codes):
    """Mean std per dimension of unit codes, times the root of their number: 1 isotropic."""
    unit = torch.nn.functional.normalize(codes, dim=-1)
    return unit.flatten(0, 1).std(0).mean().item() * codes.shape[-1] ** 0.5


def test_the_game_gets_its_weight_by_and_by_and_the_anchor_at_once():
    by_step = [OBJECTIVE.weights(step, 100) for step in range(100)]
    num = len(RECONSTRUCTION_NEEDS)
    assert all(sum(weights[:num]) == pytest.approx(2.0) for weights in by_step)
    game = [sum(weights[num:]) for weights in by_step]
    assert game == sorted(game)
    assert game[0] < 0.02
    assert game[10:] == [pytest.approx(0.1)] * 90


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial_weight": -1.0}, r"adversarial\.adversarial_weight"),
        ({"ramp_fraction": 1.5}, r"adversarial\.ramp_fraction"),
        ({"hidden_size": 0}, r"adversarial\.hidden_size"),
    ],
)
def test_nonsense_is_refused_by_the_name_of_the_option(changes, message):
    with pytest.raises(ValueError, match=message):
        AdversarialConfig(**changes)
