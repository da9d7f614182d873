import pytest
import torch

from data_sharding.stats import CorpusStats
from pretrain.health import GradientProbe
from pretrain.health.towers import TOWERS, tower_of
from pretrain.models import Backbone, HeadConfig, Views
from pretrain.objectives import Byol, ByolConfig
from tiny import tiny_backbone


@pytest.fixture(scope="module")
def gradients(sample_shards):
    torch.manual_seed(0)
    stats = CorpusStats.load(sample_shards / "stats")
    backbone = Backbone(tiny_backbone(), stats, sample_shards / "stats" / "tokenizer.json")
    objective = Byol(ByolConfig(heads=HeadConfig(hidden_size=64, embed_dim=32, norm="layer")))
    networks = objective.networks(backbone)
    return GradientProbe(networks.online, networks.target, objective)


def some_views(batch=6):
    present = torch.ones(batch, 3, dtype=torch.bool)
    return Views(
        token_ids=torch.randint(5, 50, (2, batch, 16)),
        token_mask=torch.ones(2, batch, 16, dtype=torch.bool),
        image=torch.rand(2, batch, 3, 32, 32),
        log_mel=torch.randn(2, batch, 64, 32),
        present=present,
        subset=present.expand(2, -1, -1).clone(),
    )


def test_every_parameter_of_a_network_belongs_to_a_tower(gradients):
    found = {tower_of(name) for name, _ in gradients.online.named_parameters()}
    assert found == set(TOWERS)


def test_gradient_shares_add_up_and_leave_the_run_as_it_was(gradients):
    views, weights = some_views(), gradients.objective.weights(5, 10)
    state = torch.random.get_rng_state()
    signals = gradients(views, weights)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in gradients.online.parameters())
    towers = [signals[f"gradient/share_{tower}"] for tower in TOWERS]
    assert sum(towers) == pytest.approx(1.0)
    assert min(towers) > 0.0
    groups = [signals[f"gradient/share_{group}"] for group in ("intra", "cross", "fused")]
    assert sum(groups) == pytest.approx(1.0)
    assert -1.0 <= signals["gradient/cosine_intra_cross_text"] <= 1.0


def test_gradients_of_terms_without_weight_are_not_asked_for(gradients):
    signals = gradients(some_views(), gradients.objective.weights(0, 1000))
    assert "gradient/share_cross" not in signals
    assert "gradient/share_intra" in signals
