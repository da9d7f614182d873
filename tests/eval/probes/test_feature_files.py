"""Features are made once a checkpoint and task, and found again by the hash of the weights."""

import dataclasses
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from eval.probes import checkpoint_features as reading
from eval.probes import feature_files
from eval.probes.checkpoint_features import checkpoint_features
from eval.probes.embedding_map import map_path
from eval.probes.linear_probe import LinearProbeConfig
from eval.probes.probe import ProbeConfig, probe, report_path
from eval.splits import SplitConfig
from tiny_release import SMALL, write_run
from tiny_tasks import write_intensities

CONFIG = ProbeConfig(
    splits=SplitConfig(num_splits=2),
    linear=LinearProbeConfig(inverse_regularisation=(0.01, 1.0), max_iterations=100),
    num_random_backbones=2,
)


@pytest.fixture
def own(checkpoint, tmp_path):
    """The checkpoint in a run that was never probed."""
    left_out = shutil.ignore_patterns("probes", "features", "maps")
    shutil.copytree(checkpoint.run, tmp_path / "run", ignore=left_out)
    folder = tmp_path / "run" / "checkpoints" / checkpoint.folder.name
    return replace(checkpoint, folder=folder)


@pytest.fixture
def encoded(monkeypatch):
    """Names of the backbones of each pass over a task."""
    passes, whole = [], reading.extract_features

    def counting(backbones, *others):
        passes.append(list(backbones))
        return whole(backbones, *others)

    monkeypatch.setattr(reading, "extract_features", counting)
    return passes


def files(checkpoint):
    return sorted((checkpoint.run / "features").rglob("*.safetensors"))


def same(left, right):
    """Whether two answers of `checkpoint_features` are bit-equal."""
    (first, made), (second, others) = left, right
    for field in dataclasses.fields(first):
        np.testing.assert_equal(getattr(first, field.name), getattr(second, field.name))
    assert first.labels.dtype == second.labels.dtype
    assert made.keys() == others.keys()
    for name, one in made.items():
        assert one.parameters_sha256 == others[name].parameters_sha256
        for subset, values in one.by_subset.items():
            assert values.tobytes() == others[name].by_subset[subset].tobytes()


def test_another_question_reads_no_shard_again(own, few_topics, encoded):
    first = probe(own, few_topics, CONFIG)
    assert encoded == [["pretrained", "0", "1"]]
    asked = replace(CONFIG, splits=SplitConfig(num_splits=3), also=("knn",))
    again = probe(own, few_topics, asked)
    assert len(encoded) == 1
    fresh_run = own.run.with_name("other")
    shutil.copytree(own.run, fresh_run, ignore=shutil.ignore_patterns("probes", "features"))
    other = replace(own, folder=fresh_run / "checkpoints" / own.folder.name)
    assert probe(other, few_topics, asked).to_json() == again.to_json()
    assert probe(other, few_topics, CONFIG).to_json() == first.to_json()
    assert len(encoded) == 2


def test_numbers_and_the_authors_parts_come_back_bit_equal(own, tmp_path, encoded):
    task = write_intensities(tmp_path)
    config = replace(CONFIG, representations=("text",))
    made = checkpoint_features(own, task, config)
    found = checkpoint_features(own, task, config)
    assert len(encoded) == 1
    assert made[0].fixed is not None
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(made[0].fixed, part), getattr(found[0].fixed, part))
    plain = [(replace(one[0], fixed=None), one[1]) for one in (made, found)]
    same(*plain)


def other_statistics(shards, folder):
    """The same seed and architecture; pictures are normalised otherwise."""
    shutil.copytree(shards / "stats", folder / "stats")
    told = json.loads((folder / "stats" / "stats.json").read_text())
    (folder / "stats" / "stats.json").write_text(json.dumps(told | {"image_mean": [0.1, 0.2, 0.3]}))
    return write_run(folder / "run", folder)


def other_heads(shards, folder):
    """Weights of the same shapes and values, read by other heads."""
    text = replace(SMALL.text, num_heads=4)
    return write_run(folder / "run", shards, architecture=replace(SMALL, text=text))


@pytest.mark.parametrize("make", [other_statistics, other_heads])
def test_equal_weights_with_other_statistics_or_heads_make_features_of_their_own(
    own, few_topics, encoded, sample_shards, tmp_path, make
):
    checkpoint_features(own, few_topics, CONFIG)
    other = make(sample_shards, tmp_path / "other")
    shutil.copytree(own.run / "features", other.run / "features")
    kept = checkpoint_features(other, few_topics, CONFIG)
    assert encoded[1:] == [["pretrained", "0", "1"]]
    same(kept, checkpoint_features(other, few_topics, replace(CONFIG, keep_features=False)))


def test_sources_and_versions_are_in_the_key(own, few_topics, encoded, monkeypatch):
    checkpoint_features(own, few_topics, CONFIG)
    monkeypatch.setattr(feature_files, "_made_by", lambda: "another version")
    checkpoint_features(own, few_topics, CONFIG)
    checkpoint_features(own, few_topics, CONFIG)
    assert len(encoded) == 2
    assert len(files(own)) == 4  # the older ones are gone


def test_nothing_is_kept_where_that_is_not_wished(own, few_topics):
    checkpoint_features(own, few_topics, replace(CONFIG, keep_features=False))
    assert not (own.run / "features").exists()


def test_other_weights_share_the_random_floor_and_nothing_else(
    own, few_topics, encoded, sample_shards, tmp_path
):
    checkpoint_features(own, few_topics, CONFIG)
    other = write_run(tmp_path / "other", sample_shards, seed=7)
    shutil.copytree(own.run / "features", other.run / "features")
    _, made = checkpoint_features(other, few_topics, CONFIG)
    assert encoded == [["pretrained", "0", "1"], ["pretrained"]]
    assert list(made) == ["pretrained", "0", "1"]
    few = replace(CONFIG, representations=("text",))
    checkpoint_features(other, few_topics, few)
    card = replace(few_topics.card, classes=tuple(reversed(few_topics.card.classes)))
    turned = replace(few_topics, card=card)
    checkpoint_features(other, turned, few)
    assert encoded[2:] == [["pretrained", "0", "1"]]  # of the turned card alone


def test_more_representations_are_added_to_a_file(own, few_topics, encoded):
    text = replace(CONFIG, representations=("text",))
    image = replace(CONFIG, representations=("image",))
    first = checkpoint_features(own, few_topics, text)
    checkpoint_features(own, few_topics, image)
    assert len(encoded) == 2
    same(first, checkpoint_features(own, few_topics, text))
    assert len(encoded) == 2


def test_a_torn_or_changed_file_is_told_of_and_made_anew(own, few_topics, encoded, caplog):
    text = replace(CONFIG, representations=("text",))
    made = checkpoint_features(own, few_topics, text)
    (file,) = (own.run / "features" / own.folder.name).rglob("*.safetensors")
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[-100] ^= 1
    for content in (whole[:-5], bytes(changed), b"", whole[:4]):
        file.write_bytes(content)
        caplog.clear()
        same(made, checkpoint_features(own, few_topics, text))
        assert f"{file} cannot be used" in caplog.text
    same(made, checkpoint_features(own, few_topics, text))
    assert len(encoded) == 5  # the last one was whole again


def test_where_nothing_can_be_written_the_probe_goes_on(own, few_topics, caplog):
    (own.run / "features").write_text("in the way")
    config = replace(CONFIG, representations=("text",))
    assert probe(own, few_topics, config).subsets["text"].num_samples
    assert "not kept for another probe" in caplog.text


def test_features_of_a_checkpoint_that_the_run_deleted_are_deleted(own, few_topics):
    gone = own.run / "features" / "step-00000010"
    (gone / "sample-topics").mkdir(parents=True)
    text = replace(CONFIG, representations=("text",))
    checkpoint_features(own, few_topics, text)
    assert not gone.exists()
    kept = {file.parents[1].name for file in files(own)}
    assert kept == {own.folder.name, "random-0", "random-1", "samples"}


def test_the_map_of_a_checkpoint_probed_earlier_is_made_when_it_is_missing(
    own, few_topics, encoded
):
    text = replace(CONFIG, representations=("text",))
    probe(own, few_topics, text)
    drawn, report = map_path(own, few_topics.name), report_path(own, few_topics)
    before, stamp = drawn.read_bytes(), report.stat().st_mtime_ns
    drawn.unlink()
    probe(own, few_topics, text)
    assert (drawn.read_bytes(), report.stat().st_mtime_ns) == (before, stamp)
    assert len(encoded) == 1


def test_a_map_of_other_shards_is_drawn_anew_and_a_refused_probe_draws_none(own, few_topics):
    text = replace(CONFIG, representations=("text",))
    probe(own, few_topics, text)
    drawn = map_path(own, few_topics.name)
    before = drawn.read_bytes()
    drawn.write_bytes(before.replace(few_topics.shards.digest.encode(), b"cd" * 32))
    probe(own, few_topics, text)
    assert drawn.read_bytes() == before
    drawn.unlink()
    card = replace(few_topics.card, classes=(*few_topics.card.classes, "ghosts"))
    with pytest.raises(ValueError, match="ghosts"):
        probe(own, replace(few_topics, card=card), text)
    assert not drawn.exists()


def test_a_report_that_another_question_replaces_is_told_of(own, few_topics, caplog):
    text = replace(CONFIG, representations=("text",))
    probe(own, few_topics, text)
    assert "it is replaced" not in caplog.text
    probe(own, few_topics, replace(text, splits=SplitConfig(num_splits=3)))
    assert f"{report_path(own, few_topics)} answers another question" in caplog.text
