from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from data_sharding.stats import CorpusStats
from pretrain.models import Backbone, HeadConfig, Views
from pretrain.objectives import Byol, ByolConfig
from pretrain.objectives.byol import PAIRS, OnlineNetwork, TargetNetwork, available_pairs
from tiny import tiny_backbone

HEADS = HeadConfig(hidden_size=64, embed_dim=32, norm="layer")
ALL = tuple([1.0] * len(PAIRS))


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
        value for (a, b), value in zip(PAIRS, report.by_term, strict=True) if "audio" in (a, b)
    ]
    assert all(value == 0.0 for value in audio)


def test_the_loss_equals_the_equations_pair_by_pair(online):
    views = some_views()
    views.present[0, 1] = False
    views.subset[:, 0, 1] = False
    targets = TargetNetwork(online)(views)
    report = online(views, targets, scales(views.present), ALL)
    for (a, b), term, value in zip(PAIRS, Byol.terms, report.by_term, strict=True):
        rows = slice(None) if "fused" in (a, b) or "image" not in (a, b) else slice(1, None)
        q = report.stages["predictor"][term]
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
    objective = Byol(ByolConfig(cross_start_fraction=0.1, cross_ramp_fraction=0.1))
    place = objective.terms.index("cross_text_image")
    cross = [objective.weights(step, 100)[place] for step in range(100)]
    assert cross[:10] == [0.0] * 10
    assert cross[20] == pytest.approx(1 / 6)
    assert cross == sorted(cross)


def test_each_predictor_reads_only_the_source_of_its_own_pair(online):
    views = some_views()
    report = online(views, TargetNetwork(online)(views), scales(views.present), ALL)
    moved = dict(report.stages["predictor"])
    with torch.no_grad():
        online.predictors.contract.bias[Byol.terms.index("cross_audio_text")] += 1.0
    again = online(views, TargetNetwork(online)(views), scales(views.present), ALL)
    changed = [
        n for n, rows in again.stages["predictor"].items() if not torch.equal(rows, moved[n])
    ]
    assert changed == ["cross_audio_text"]


def test_what_stands_in_for_a_missing_modality_changes_no_loss(online):
    """Not even through the batch statistics of the rows that have it."""
    heads = replace(HEADS, norm="batch")
    online = OnlineNetwork(online.backbone, heads)
    views = some_views()
    views.present[0, 1] = False
    views.subset[:, 0, 1] = False
    target = TargetNetwork(online)
    before = online(views, target(views), scales(views.present), ALL).by_term
    views.image[:, 0] = 1.0 - views.image[:, 0]
    after = online(views, target(views), scales(views.present), ALL).by_term
    torch.testing.assert_close(after, before)
    views.present[0, 1] = True
    assert not torch.allclose(
        online(views, target(views), scales(views.present), ALL).by_term, before
    )


def test_a_batch_known_to_be_complete_has_the_same_losses(online):
    online = OnlineNetwork(online.backbone, replace(HEADS, norm="batch"))
    views, target = some_views(), TargetNetwork(online)
    known = replace(views, complete=True)
    one, other = (online(v, target(v), scales(v.present), ALL).by_term for v in (views, known))
    torch.testing.assert_close(one, other)


def test_weights_of_nothing_are_refused():
    with pytest.raises(ValueError, match="must be positive"):
        ByolConfig(intra_weight=0.0, cross_weight=0.0, fused_weight=0.0)
