from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.objectives.autoencoder import (
    CORRELATED,
    Autoencoder,
    AutoencoderConfig,
    correlation,
)
from pretrain.objectives.content import ContentConfig
from pretrain.objectives.reconstruction import RECONSTRUCTION_NEEDS, ReconstructionConfig

SUBSETS = list(product((True, False), repeat=3))
CONFIG = AutoencoderConfig(
    reconstruction=ReconstructionConfig(
        hidden_size=32, content=ContentConfig(image_pixels=4, audio_mels=4, audio_frames=4)
    ),
    correlation_dim=8,
)
OBJECTIVE = Autoencoder(CONFIG)
WEIGHTS = OBJECTIVE.weights(0, 1)


def scales(views):
    return 1.0 / OBJECTIVE.available(views).sum(1).clamp(min=1.0)


def loss_of(networks, views, given_scales=None):
    chosen = scales(views) if given_scales is None else given_scales
    return networks.online(views, networks.target(views), chosen, WEIGHTS)


def by_name(report):
    return dict(zip(OBJECTIVE.terms, report.by_term.tolist(), strict=True))


def test_every_part_of_the_loss_falls_when_a_batch_is_learned_by_heart(backbone, make_views):
    torch.manual_seed(0)
    networks, views = OBJECTIVE.networks(backbone), make_views([(True, True, True)] * 4)
    optimizer = torch.optim.AdamW(networks.online.parameters(), lr=3e-3)
    before = by_name(loss_of(networks, views))
    for _ in range(40):
        optimizer.zero_grad()
        loss_of(networks, views).loss.backward()
        optimizer.step()
    after = by_name(loss_of(networks, views))
    for name in RECONSTRUCTION_NEEDS:
        assert after[name] < 0.75 * before[name], (name, before[name], after[name])
    assert all(
        after[f"correlation_{a}_{b}"] < before[f"correlation_{a}_{b}"] for a, b in CORRELATED
    )


@pytest.mark.parametrize("subset", SUBSETS)
def test_every_online_parameter_gets_a_gradient_whatever_is_missing(backbone, make_views, subset):
    networks = OBJECTIVE.networks(backbone)
    report = loss_of(networks, make_views([subset] * 3))
    report.loss.backward()
    trained = [(n, p) for n, p in networks.online.named_parameters() if p.requires_grad]
    assert [name for name, p in trained if p.grad is None] == []
    assert all(p.grad.isfinite().all() for _, p in trained)
    values = by_name(report)
    absent = [m for m, there in zip(("text", "image", "audio"), subset, strict=True) if not there]
    assert all(values[name] == 0.0 for name in values if any(m in name for m in absent))


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


def test_micro_batches_add_up_but_for_the_correlations(backbone, make_views):
    networks, views = OBJECTIVE.networks(backbone), make_views(SUBSETS)
    chosen, num = scales(views), len(RECONSTRUCTION_NEEDS)
    whole = loss_of(networks, views).by_term
    parts = sum(loss_of(networks, views.rows(s, s + 2), chosen).by_term for s in (0, 2, 4, 6))
    torch.testing.assert_close(parts[:num], whole[:num])


def test_the_loss_is_the_weighted_sum_of_means_over_available_rows(backbone, make_views):
    networks, views = OBJECTIVE.networks(backbone), make_views(SUBSETS)
    report = loss_of(networks, views)
    terms = report.by_term * torch.tensor(WEIGHTS)
    torch.testing.assert_close(report.loss, terms.sum())
    alone = [loss_of(networks, views.rows(row, row + 1)) for row in range(len(SUBSETS))]
    for index, name in enumerate(RECONSTRUCTION_NEEDS):
        rows = [
            r.by_term[index] for r, has in zip(alone, available(views, name), strict=True) if has
        ]
        torch.testing.assert_close(report.by_term[index], torch.stack(rows).mean())


def available(views, term):
    return views.present[:, ["text", "image", "audio"].index(term.rsplit("_", 1)[1])]


def test_correlation_is_the_mean_of_pearson_over_dimensions_and_views():
    torch.manual_seed(0)
    a = torch.randn(2, 20, 3)
    b = 0.5 * a + torch.randn(2, 20, 3)
    rows = torch.tensor([1.0, 0.0] * 10)
    pairs = [(a[v, ::2, d].numpy(), b[v, ::2, d].numpy()) for v in range(2) for d in range(3)]
    expected = np.mean([np.corrcoef(x, y)[0, 1] for x, y in pairs])
    assert correlation(a, b, rows).item() == pytest.approx(expected, abs=1e-4)


def test_correlation_ignores_scale_and_place_and_is_one_at_most():
    torch.manual_seed(0)
    a = torch.randn(2, 16, 4)
    assert correlation(a, 3.0 * a + 7.0, torch.ones(16)).item() == pytest.approx(1.0, abs=1e-4)
    assert correlation(a, 5.0 - a, torch.ones(16)).item() == pytest.approx(-1.0, abs=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_correlation_of_fewer_than_two_rows_is_zero_with_a_finite_gradient(count):
    a = torch.randn(2, 4, 3, requires_grad=True)
    found = correlation(a, torch.randn(2, 4, 3), (torch.arange(4) < count).float())
    found.backward()
    assert found.item() == 0.0
    assert (a.grad == 0.0).all()


def test_the_correlation_term_is_minus_the_correlation_of_the_rows_with_both(backbone, make_views):
    networks, views = OBJECTIVE.networks(backbone), make_views(SUBSETS * 2)
    report = loss_of(networks, views)
    embeddings = report.stages["encoder"]
    for a, b in CORRELATED:
        both = available(views, f"_{a}") & available(views, f"_{b}")
        projected = [networks.online.project[m](embeddings[m]) for m in (a, b)]
        expected = -correlation(*projected, both.float()).item()
        assert by_name(report)[f"correlation_{a}_{b}"] == pytest.approx(expected, abs=1e-5)


def test_the_target_is_a_backbone_that_follows_the_online_one(backbone, make_views):
    networks = OBJECTIVE.networks(backbone)
    online = dict(networks.online.named_parameters())
    target = dict(networks.target.named_parameters())
    assert target.keys() == {name for name in online if name.startswith("backbone.")}
    assert all(torch.equal(value, online[name]) for name, value in target.items())
    assert all(value is not online[name] for name, value in target.items())
    assert networks.target(make_views([(True, True, True)])) == {}


def test_the_whole_loss_runs_in_bfloat16(backbone, make_views):
    networks, views = OBJECTIVE.networks(backbone), make_views(SUBSETS)
    exact = loss_of(networks, views)
    networks.online.bfloat16()
    report = loss_of(networks, views)
    report.loss.backward()
    num = len(RECONSTRUCTION_NEEDS)
    assert report.by_term.dtype == torch.float32
    assert report.by_term.isfinite().all()
    torch.testing.assert_close(report.by_term[:num], exact.by_term[:num], atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoencoderConfig(correlation_weight=-1.0), r"autoencoder\.correlation_weight"),
        (lambda: AutoencoderConfig(correlation_dim=0), r"autoencoder\.correlation_dim"),
        (lambda: ReconstructionConfig(own_weight=-0.1), r"reconstruction\.own_weight"),
        (lambda: ReconstructionConfig(hidden_size=0), r"reconstruction\.hidden_size"),
        (
            lambda: AutoencoderConfig(
                reconstruction=ReconstructionConfig(own_weight=0.0, fused_weight=0.0),
                correlation_weight=0.0,
            ),
            "one of the weights must be positive",
        ),
    ],
)
def test_nonsense_is_refused_by_the_name_of_the_option(make, message):
    with pytest.raises(ValueError, match=message):
        make()
