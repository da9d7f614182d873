from dataclasses import replace

import pytest
import torch

from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from pretrain.models import Backbone
from pretrain.objectives import Adversarial, AdversarialConfig, Autoencoder, AutoencoderConfig
from tiny import tiny_backbone


@pytest.mark.parametrize(
    "objective", [Autoencoder(AutoencoderConfig()), Adversarial(AdversarialConfig())]
)
def test_batch_norms_of_the_published_network_gather_statistics(
    objective, stats_folder, make_views
):
    config = tiny_backbone()
    config = replace(config, image=replace(config.image, encoder="resnet18", width=32))
    stats = CorpusStats.load(stats_folder)
    networks = objective.networks(Backbone(config, stats, stats_folder / TOKENIZER_FILE))
    before = {name: value.clone() for name, value in networks.target.named_buffers()}
    assert networks.target(make_views([[True, True, True]] * 4)) == {}
    moved = {
        name
        for name, value in networks.target.named_buffers()
        if not torch.equal(value, before[name])
    }
    assert any(name.endswith("running_var") for name in moved)
