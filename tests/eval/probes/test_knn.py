"""The online kNN score of a backbone in training."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from eval.probes.knn import KnnConfig, OnlineKnn, knn_predict
from pretrain.models import Backbone


def clouds(count, num_classes, seed=0, distance=3.0):
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % num_classes
    centres = generator.normal(size=(num_classes, 8)) * distance
    vectors = centres[labels] + generator.normal(size=(count, 8))
    return torch.tensor(vectors, dtype=torch.float32), labels


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), neighbours=st.integers(1, 20), num_classes=st.integers(2, 5))
def test_predictions_are_scikit_learns_with_the_papers_weights(seed, neighbours, num_classes):
    vectors, labels = clouds(40, num_classes, seed, distance=0.5)
    config = KnnConfig(num_neighbours=neighbours)
    unit = torch.nn.functional.normalize(vectors, dim=1).double().numpy()
    expected = []
    for row in range(len(labels)):  # each sample is a group: leave one out
        others = np.arange(len(labels)) != row
        model = KNeighborsClassifier(
            neighbours,
            metric="cosine",
            algorithm="brute",
            weights=lambda distance: np.exp((1.0 - distance) / config.temperature),
        ).fit(unit[others], labels[others])
        expected.append(model.predict(unit[row : row + 1])[0])
    found = knn_predict(vectors, labels, np.arange(len(labels)), num_classes, config)
    assert (found == np.array(expected)).mean() > 0.97  # a vote may tie within rounding


def test_neighbours_come_from_other_groups_only():
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(30, 64))
    vectors = torch.tensor(np.repeat(pictures, 4, axis=0), dtype=torch.float32)  # four copies
    groups = np.repeat(np.arange(30), 4)
    labels = generator.integers(0, 3, 30)[groups]  # labels that pictures do not tell
    copies = knn_predict(vectors, labels, np.arange(120), 3, KnnConfig(num_neighbours=3))
    honest = knn_predict(vectors, labels, groups, 3, KnnConfig(num_neighbours=3))
    assert (copies == labels).mean() == 1.0
    assert (honest == labels).mean() < 0.7


def test_one_group_cannot_be_scored():
    vectors, labels = clouds(6, 2)
    with pytest.raises(ValueError, match="two groups"):
        knn_predict(vectors, labels, np.zeros(6, dtype=np.int64), 2, KnnConfig())


def test_votes_do_not_overflow_at_a_tiny_temperature():
    vectors, labels = clouds(40, 2)
    found = knn_predict(vectors, labels, np.arange(40), 2, KnnConfig(temperature=1e-4))
    assert (found == labels).mean() > 0.9


@pytest.fixture(scope="module")
def knn(few_topics):
    return OnlineKnn(few_topics)


def test_every_representation_is_scored_and_again_alike(knn, checkpoint):
    backbone = Backbone.load(checkpoint.backbone)
    first = knn(backbone)
    assert set(first) == {"knn/text", "knn/image", "knn/audio", "knn/fused"}
    assert all(0.0 <= value <= 1.0 for value in first.values())
    assert knn(backbone) == first


def test_it_leaves_no_trace_in_a_training_run(few_topics, checkpoint):
    backbone = Backbone.load(checkpoint.backbone).train()
    backbone.encoders["audio"].eval()
    modes = [module.training for module in backbone.modules()]
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    random = torch.random.get_rng_state()
    OnlineKnn(few_topics)(backbone)
    assert [module.training for module in backbone.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(state[name], value) for name, value in backbone.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_at_most_so_many_samples_are_kept_and_groups_stay_whole(few_topics, checkpoint):
    backbone = Backbone.load(checkpoint.backbone)
    whole = OnlineKnn(few_topics, KnnConfig(batch_size=5))
    small = OnlineKnn(few_topics, KnnConfig(batch_size=5, max_samples=20))
    again = OnlineKnn(few_topics, KnnConfig(batch_size=5, max_samples=20))
    whole(backbone)
    assert small(backbone) == again(backbone)
    keys = [sum((batch.keys for batch in made._cached.batches), ()) for made in (whole, small)]
    assert 10 < len(keys[1]) <= 20
    groups = [dict(zip(keys[0], whole._cached.groups, strict=True))[key] for key in keys[1]]
    everywhere = whole._cached.groups.tolist()
    assert all(groups.count(group) == everywhere.count(group) for group in groups)


def test_a_representation_of_one_group_is_left_out_and_said_once(few_topics, checkpoint, capsys):
    backbone, knn = Backbone.load(checkpoint.backbone), OnlineKnn(few_topics)
    knn(backbone)
    cached = knn._cached
    heard = cached.groups == cached.groups[cached.present[:, 2]][0]
    knn._cached = dataclasses.replace(
        cached, present=cached.present & np.array([True, True, False]) | heard[:, None]
    )
    for _ in range(2):
        assert set(knn(backbone)) == {"knn/text", "knn/image", "knn/fused"}
    assert capsys.readouterr().err.count("audio is not scored: all samples that have it") == 1


def test_embeddings_that_are_not_finite_have_no_score(few_topics, checkpoint, capsys):
    backbone, knn = Backbone.load(checkpoint.backbone), OnlineKnn(few_topics)
    with torch.no_grad():
        next(backbone.encoders["image"].parameters()).fill_(float("nan"))
    for _ in range(2):
        scores = knn(backbone)
        assert "knn/image" not in scores
        assert "knn/text" in scores
    assert capsys.readouterr().err.count("image is not scored while its embeddings are not") == 1


def test_labels_that_no_sample_carries_are_named(few_topics, checkpoint):
    card = dataclasses.replace(few_topics.card, label_key="mood")
    other = dataclasses.replace(few_topics, card=card)
    with pytest.raises(ValueError, match=r"labels\.mood"):
        OnlineKnn(other)(Backbone.load(checkpoint.backbone))


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"knn\.num_neighbours"):
        KnnConfig(num_neighbours=0)
    with pytest.raises(ValueError, match=r"knn\.temperature"):
        KnnConfig(temperature=0.0)
