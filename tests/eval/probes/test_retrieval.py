"""Retrieval between modalities: planted embeddings, chance, ties, and a whole backbone."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eval.pages.retrieval_table import format_retrieval
from eval.probes.ranking import chance_recall, first_right_places, recall_at
from eval.probes.retrieval import RetrievalConfig, Searchable, retrieve, search_all
from eval.records import to_json_text
from pretrain.models import Backbone

SIX = {
    f"{one}_to_{other}"
    for one in ("text", "image", "audio")
    for other in ("text", "image", "audio")
    if one != other
}


def searchable(vectors, groups, present=None):
    return Searchable(
        vectors={name: values.astype(np.float32) for name, values in vectors.items()},
        present=np.ones((len(groups), 3), dtype=bool) if present is None else present,
        groups=tuple(map(str, groups)),
    )


def random_vectors(count, seed=0, dim=16):
    return np.random.default_rng(seed).normal(size=(count, dim))


def same(vectors):
    return {name: vectors for name in ("text", "image", "audio")}


def test_partners_that_are_equal_are_always_found():
    found = search_all(searchable(same(random_vectors(50)), range(50)), RetrievalConfig())
    assert set(found) == SIX
    for direction in found.values():
        assert {recall.value for recall in direction.recall.values()} == {1.0}
        assert direction.median_rank == 1.0
        assert direction.recall["1"].chance == pytest.approx(1 / 50)
        assert direction.recall["1"].above_chance


def test_a_cone_of_its_own_for_each_modality_is_forgiven_by_centring_alone():
    base = random_vectors(60)
    cones = 100.0 * np.eye(16)
    shifted = {"text": base, "image": base + cones[0], "audio": base + cones[1]}
    centred = search_all(searchable(shifted, range(60)), RetrievalConfig())
    plain = search_all(searchable(shifted, range(60)), RetrievalConfig(centre="none"))
    assert centred["image_to_audio"].recall["1"].value == 1.0
    assert plain["image_to_audio"].recall["1"].value < 0.2


def test_vectors_without_relation_give_chance():
    vectors = {name: random_vectors(400, seed) for seed, name in enumerate(same(0))}
    for direction in search_all(searchable(vectors, range(400)), RetrievalConfig()).values():
        for recall in direction.recall.values():
            sd = math.sqrt(recall.chance * (1 - recall.chance) / 400)
            assert abs(recall.value - recall.chance) < 4.5 * sd


@pytest.mark.parametrize("centre", ["modality", "none"])
def test_a_collapsed_embedding_gets_chance_and_no_perfect_score(centre):
    collapsed = same(np.ones((100, 8)))
    found = search_all(searchable(collapsed, range(100)), RetrievalConfig(centre=centre))
    for direction in found.values():
        assert direction.recall["5"].value == pytest.approx(0.05)
        assert not direction.recall["5"].above_chance


def test_one_sample_of_each_group_is_searched():
    groups = np.arange(90) // 3
    found = search_all(searchable(same(random_vectors(30)[groups]), groups), RetrievalConfig())
    assert found["text_to_image"].num_gallery == 30
    assert found["text_to_image"].recall["1"].chance == pytest.approx(1 / 30)


def test_with_every_sample_in_the_gallery_any_of_the_group_is_right():
    groups = np.arange(90) // 3
    config = RetrievalConfig(gallery="all")
    found = search_all(searchable(same(random_vectors(30)[groups]), groups), config)
    assert found["text_to_image"].num_gallery == 90
    assert found["text_to_image"].recall["1"].value == 1.0
    assert found["text_to_image"].recall["1"].chance == pytest.approx(3 / 90)


def test_a_missing_modality_leaves_out_its_samples_and_its_directions():
    present = np.ones((40, 3), dtype=bool)
    present[:, 2] = False
    present[:10, 0] = False
    found = search_all(searchable(same(random_vectors(40)), range(40), present), RetrievalConfig())
    assert set(found) == {"text_to_image", "image_to_text"}
    assert found["text_to_image"].num_queries == 30


@given(
    num_items=st.integers(2, 40),
    cutoff=st.integers(1, 50),
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_chance_is_the_exact_share_of_random_orders(num_items, cutoff, counts):
    counts = [min(count, num_items) for count in counts]
    right = np.array([[place < count for place in range(num_items)] for count in counts])
    drawn = min(cutoff, num_items)
    exact = [
        1 - math.comb(num_items - count, drawn) / math.comb(num_items, drawn) for count in counts
    ]
    assert chance_recall(cutoff, right) == pytest.approx(np.mean(exact))


def test_places_are_those_of_a_plain_sort():
    queries, gallery = random_vectors(20, 1), random_vectors(30, 2)
    right = np.zeros((20, 30), dtype=bool)
    right[np.arange(20), np.arange(20)] = True
    found = first_right_places(queries, gallery, right, seed=3)
    for row in range(20):
        cosine = gallery @ queries[row] / np.linalg.norm(gallery, axis=1)
        assert found[row] == 1 + (cosine > cosine[row]).sum()


def test_the_interval_holds_the_recall_and_narrows_with_queries():
    widths = []
    for count in (50, 2500):
        places = np.arange(count) % 4 + 1
        right = np.eye(count, 20, dtype=bool)
        right[:, 0] = True
        found = recall_at(1, places, right, np.arange(count), seed=0)
        assert found.interval.low <= found.value <= found.interval.high
        widths.append(found.interval.high - found.interval.low)
    assert widths[1] < widths[0] / 5


def test_languages_of_one_picture_do_not_narrow_the_interval():
    places, right = np.arange(40) % 2 + 1, np.ones((40, 40), dtype=bool)
    alone = recall_at(1, places, right, np.arange(40), seed=0).interval
    repeated = recall_at(
        1, np.repeat(places, 8), np.repeat(right, 8, axis=0), np.arange(320) // 8, seed=0
    ).interval
    assert repeated == alone


def test_a_backbone_is_searched_in_six_directions_and_always_alike(checkpoint, few_topics):
    backbone = Backbone.load(checkpoint.backbone)
    report = retrieve(backbone, few_topics.shards, "group")
    assert set(report.directions) == SIX
    assert report.directions["text_to_audio"].num_gallery < report.num_samples
    again = retrieve(backbone, few_topics.shards, "group", RetrievalConfig(batch_size=7))
    for name, direction in report.directions.items():
        for cutoff, recall in direction.recall.items():
            other = again.directions[name].recall[cutoff].value
            assert recall.value == pytest.approx(other, abs=0.1)
    assert to_json_text(report.to_json()) == to_json_text(
        retrieve(backbone, few_topics.shards, "group").to_json()
    )


def test_a_sample_without_its_group_is_named(checkpoint, few_topics):
    with pytest.raises(ValueError, match=r"lacks metadata\.speaker"):
        retrieve(Backbone.load(checkpoint.backbone), few_topics.shards, "speaker")


def test_weights_that_give_nan_are_not_ranked(checkpoint, few_topics):
    backbone = Backbone.load(checkpoint.backbone)
    with torch.no_grad():
        next(backbone.encoders["image"].parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="features are not finite"):
        retrieve(backbone, few_topics.shards)


def test_the_table_names_every_direction_and_explains_its_brackets(checkpoint, few_topics):
    report = retrieve(Backbone.load(checkpoint.backbone), few_topics.shards, "group")
    printed = format_retrieval(report, "few [topics]", width=110)
    assert "[low, high]: 95 % bootstrap over groups; (chance)" in printed
    assert "few [topics]" in printed
    for direction in SIX:
        assert direction.replace("_to_", " -> ") in printed
    assert "…" not in format_retrieval(report, "few", width=60)


def test_places_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"retrieval\.cutoffs"):
        RetrievalConfig(cutoffs=(5, 1))
    with pytest.raises(ValueError, match=r"retrieval\.seed"):
        dataclasses.replace(RetrievalConfig(), seed=-1)
