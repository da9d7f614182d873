import dataclasses
import json

import numpy as np
import pytest

from eval.card import TaskCard
from eval.pages.map_chart import map_section
from eval.pages.run_record import read_run
from eval.pages.task_section import task_sections
from eval.probes.embedding_map import NUM_POINTS, make_map, map_from_json, project
from eval.records import write_json
from eval.samples import TaskSamples
from tiny_pages import MANY, embedding_map, probes

WORDS = {"licence": "cc0", "source": "made up", "split_rule": "none", "group_key": None}


def card_of(**kind):
    return TaskCard(name="mood", label_key="mood", modalities=("text",), **WORDS, **kind)


def samples_of(labels, present, num_testable=None):
    count = len(labels)
    return TaskSamples(
        ids=tuple(map(str, range(count))),
        labels=np.asarray(labels),
        groups=tuple(map(str, range(count))),
        num_testable=count if num_testable is None else num_testable,
        present=present,
        texts=("",) * count,
        num_unlabelled=0,
    )


def test_the_widest_direction_lies_across_and_tells_its_share():
    angles = np.linspace(0.0, 2 * np.pi, 40, endpoint=False)
    plane = np.stack([3 * np.cos(angles), np.sin(angles)], axis=1)
    turned = plane @ np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    # Two columns twice: standardised, the two pairs stay what they are.
    rows = np.concatenate([turned, turned], axis=1).astype(np.float32)
    found = project(rows, np.zeros(40, dtype=np.int64))
    assert sum(found.shown) == pytest.approx(1.0, abs=0.002)
    assert found.shown[0] > found.shown[1] > 0.0
    places = np.array(found.places)
    assert places[:, 0].std() == pytest.approx(1.0, abs=0.01)
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.01


def test_what_lies_apart_in_the_features_lies_apart_on_the_map():
    generator = np.random.default_rng(0)
    classes = np.arange(60, dtype=np.int64) % 2
    rows = generator.normal(size=(60, 16)) + 6.0 * classes[:, None]
    found = np.array(project(rows.astype(np.float32), classes).places)
    first, second = found[classes == 0, 0], found[classes == 1, 0]
    assert max(first) < min(second) or max(second) < min(first)


def test_the_same_rows_give_the_same_map_and_flat_ones_a_finite_one():
    rows = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    classes = np.zeros(30, dtype=np.int64)
    assert project(rows, classes) == project(rows.copy(), classes)
    flat = project(np.ones((5, 4), dtype=np.float32), classes[:5])
    assert set(flat.places) == {(0.0, 0.0)}
    assert flat.shown == (0.0, 0.0)


def test_at_most_a_thousand_samples_are_drawn_of_those_that_may_be_tested_and_read():
    count = 3000
    present = np.ones((count, 3), dtype=bool)
    present[::2, 1] = False
    labels = np.arange(count) % 2
    features = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    features[2500:] += 1000.0  # only trained on
    found = make_map(
        card_of(classes=("glad", "sad")),
        {"name": "step-00000001", "digest": "ab"},
        "cd" * 32,
        samples_of(labels, present, num_testable=2500),
        {"text": features, "image": features},
    )
    assert len(found.projections["text"].places) == NUM_POINTS
    assert 400 < len(found.projections["image"].places) < 600
    assert found.num_samples == 2500
    assert np.abs(found.projections["text"].places).max() < 6.0
    assert set(found.projections["image"].classes) == {1}  # every other sample has a picture


def test_numbers_are_cut_into_fifths():
    card = card_of(label_range=(-3.0, 3.0), class_cuts="mosi")
    labels = np.linspace(-3.0, 3.0, 100)
    features = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    samples = samples_of(labels, np.ones((100, 3), dtype=bool))
    found = make_map(card, {"digest": "ab"}, "cd" * 32, samples, {"text": features})
    assert found.classes[0] == "below -1.8"
    assert found.classes[-1] == "+1.8 and above"
    counts = np.bincount(found.projections["text"].classes)
    assert counts.tolist() == [20] * 5


def test_a_map_is_read_back_and_a_malformed_one_refused():
    found = embedding_map(100)
    record = json.loads(json.dumps(found.to_json()))
    assert map_from_json(record) == found
    for broken in (
        record | {"format": 9},
        record | {"classes": ["one"]},
        {key: value for key, value in record.items() if key != "projections"},
    ):
        with pytest.raises(ValueError, match="map"):
            map_from_json(broken)


def test_every_class_has_a_sign_of_its_own():
    found = dataclasses.replace(embedding_map(100), classes=tuple(map(str, range(40))))
    signs = {(kind, str(drawing)) for _, kind, drawing in map_section(found).legend}
    assert len(signs) == 40


def test_class_names_are_escaped_in_a_map():
    evil = ("<script>", *MANY[1:])
    section = map_section(dataclasses.replace(embedding_map(100), classes=evil))
    assert "<script>" not in section.panels[0].svg
    assert "&lt;script&gt;" in section.panels[0].svg


def test_a_map_is_drawn_with_the_probe_of_its_weights_and_shards_alone():
    found, mood = embedding_map(200), probes(200)
    maps = {("mood", mood.checkpoint["digest"]): found}
    assert [panel.name for panel in task_sections([mood], maps)[0].map.panels] == ["text", "fused"]
    other = dataclasses.replace(mood, shards={**mood.shards, "digest": "ef" * 32})
    assert task_sections([other], maps)[0].map is None
    later = dataclasses.replace(mood, checkpoint={**mood.checkpoint, "digest": "ef" * 32})
    assert task_sections([later], maps)[0].map is None


def test_a_map_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    write_json(tmp_path / "maps" / "step-00000001" / "mood.json", {"format": 1})
    with pytest.raises(ValueError, match=r"mood\.json: not an embedding map.*remove it"):
        read_run(tmp_path)
