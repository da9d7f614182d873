import pytest
import torch
import torch.nn.functional as F

from data_sharding.stats import CorpusStats
from pretrain.models import Backbone, HeadConfig, Views
from pretrain.objectives import (
    ByolConfig,
    OnlineNetwork,
    TargetNetwork,
    TermWeights,
    available_pairs,
    pair_names,
)
from tiny import tiny_backbone

HEADS = HeadConfig(hidden_size=64, embed_dim=32, norm="layer")
ALL = TermWeights(tuple([1.0] * len(pair_names())))


@pytest.fixture
def online(sample_shards):
    torch.manual_seed(0)
    stats = CorpusStats.load(sample_shards / "stats")
    backbone = Backbone(tiny_backbone(), stats, sample_shards / "stats" / "tokenizer.json")
    return OnlineNetwork(backbone, HEADS)


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


def scales(present):
    return 1.0 / available_pairs(present).sum(1).clamp(min=1.0)


def test_every_online_parameter_gets_a_gradient(online):
    views = some_views()
    report = online(views, TargetNetwork(online)(views), scales(views.present), ALL)
    report.loss.backward()
    without = [name for name, p in online.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_every_parameter_is_used_even_where_a_modality_is_missing_everywhere(online):
    views = some_views()
    views.present[:, 2] = False
    views.subset[..., 2] = False
    report = online(views, TargetNetwork(online)(views), scales(views.present), ALL)
    report.loss.backward()
    assert all(p.grad is not None for p in online.parameters() if p.requires_grad)
    audio = [
        value
        for (a, b), value in zip(pair_names(), report.by_pair, strict=True)
        if "audio" in (a, b)
    ]
    assert all(value == 0.0 for value in audio)


def test_the_loss_equals_the_equations_pair_by_pair(online):
    views = some_views()
    views.present[0, 1] = False
    views.subset[:, 0, 1] = False
    targets = TargetNetwork(online)(views)
    report = online(views, targets, scales(views.present), ALL)
    for (a, b), value in zip(pair_names(), report.by_pair, strict=True):
        rows = slice(None) if "fused" in (a, b) or "image" not in (a, b) else slice(1, None)
        q = online.predictors[f"{a}_to_{b}"](report.online.by_source[a])
        expected = sum(
            (2 - 2 * F.cosine_similarity(q[v, rows], targets[b][1 - v, rows], dim=-1)).mean()
            for v in (0, 1)
        )
        assert value.item() == pytest.approx(expected.item(), rel=1e-4), (a, b)


def test_micro_batches_add_up_to_the_whole_batch(online):
    views = some_views()
    views.present[0, 1] = False
    target = TargetNetwork(online)
    scale = scales(views.present)
    whole = online(views, target(views), scale, ALL).loss
    parts = [views.rows(start, start + 2) for start in (0, 2, 4)]
    summed = sum(online(part, target(part), scale, ALL).loss for part in parts)
    torch.testing.assert_close(whole, summed)


def test_a_missing_picture_changes_nothing_in_the_fused_embedding(online):
    views = some_views()
    views.subset[..., 1] = False
    before = online.backbone.fuse(embeddings(online, views), views.subset[0])
    views.image.fill_(0.7)
    after = online.backbone.fuse(embeddings(online, views), views.subset[0])
    torch.testing.assert_close(before, after)


def embeddings(online, views):
    from pretrain.models import ModelInputs

    return online.backbone.embed(
        ModelInputs(views.token_ids[0], views.token_mask[0], views.image[0], views.log_mel[0])
    )


def test_the_target_starts_as_the_online_network_without_predictors(online):
    target = dict(TargetNetwork(online).named_parameters())
    expected = {n: p for n, p in online.named_parameters() if not n.startswith("predictors")}
    assert target.keys() == expected.keys()
    assert all(torch.equal(target[name], value) for name, value in expected.items())


def test_cross_terms_start_late_and_ramp_up():
    config = ByolConfig(cross_start_fraction=0.1, cross_ramp_fraction=0.1)
    cross = [
        dict(zip(pair_names(), TermWeights.at_step(config, k, 100).by_pair, strict=True))[
            "text", "image"
        ]
        for k in range(100)
    ]
    assert cross[:10] == [0.0] * 10
    assert cross[20] == pytest.approx(1 / 6)
    assert cross == sorted(cross)


def test_a_batch_normed_head_keeps_its_views_apart():
    from pretrain.models import MlpHead

    head = MlpHead(8, HeadConfig(hidden_size=16, embed_dim=4, norm="batch"))
    views = torch.randn(2, 32, 8)
    both, alone = head(views), head(views[:1])
    torch.testing.assert_close(both[0], alone[0])
    torch.testing.assert_close(head(torch.stack([views[0], 100 + views[1]]))[0], both[0])
