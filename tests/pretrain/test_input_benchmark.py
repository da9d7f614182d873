"""`benchmarks/input.py` on a few pictures: that it measures what it says."""

import pytest
import torch
from generated_media import write_media
from input import candidates, ratios_of
from input_arms import Ours, Peer, with_grain
from input_stall import Stall, measure_stall
from torch import nn

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    corpus, out = (tmp_path_factory.mktemp("input") / name for name in ("corpus", "shards"))
    corpus.mkdir()
    write_media(corpus, 32, with_grain)
    shard_corpus(corpus, out, ShardingConfig(samples_per_shard=32))
    compute_stats(out, StatsConfig())
    return out


@pytest.fixture(scope="module")
def ours(shards):
    return Ours(shards, 8)


def test_every_stage_and_every_way_to_two_views_is_timed(ours):
    seconds = {name: [run()] for name, run in candidates(ours).items()}
    assert all(taken > 0.0 for (taken,) in seconds.values()), seconds
    found = ratios_of(seconds)
    cheap, whole = seconds["picture, crops and draws"][0], seconds["picture, all on the CPU"][0]
    assert found["picture: all on the CPU / crops and draws"].median == whole / cheap > 1.0


@pytest.mark.parametrize("blur", ["pillow", "torchvision"])
def test_a_peer_makes_two_views_of_each_picture_as_we_do(ours, blur):
    views = Peer(blur)(ours.pictures[:3])
    assert len(views) == 6
    for view in views:
        assert view.shape == (3, 224, 224)
        assert view.dtype == torch.float32
        assert 0.0 <= view.min() < view.max() <= 1.0


def test_the_share_of_a_step_that_waits_for_data_is_measured(shards):
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 4))
    sizes = Stall(workers=0, batch=8, steps=2, warmup_steps=1)
    found = measure_stall(shards, torch.device("cpu"), sizes, encoder)
    assert 0.0 < found["stall_share"] < 1.0  # without workers all of the loading is waited for
    assert found["step_seconds"] > found["views_seconds"] > 0.0
    assert found["device"] == "cpu"
