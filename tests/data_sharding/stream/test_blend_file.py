import json
import shutil

import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.schema import ShardError
from data_sharding.stats import CorpusStats, StatsConfig, compute_stats
from data_sharding.stream.source import append_phase, open_stream, write_blend
from tiny_corpus import write_corpus


@pytest.fixture
def sets(tmp_path):
    """Two small sets, a and b, of 9 and 6 training samples."""
    for name, count in (("a", 12), ("b", 8)):
        write_corpus(tmp_path / "corpora" / name, count)
        shard_corpus(
            tmp_path / "corpora" / name, tmp_path / name, ShardingConfig(samples_per_shard=4)
        )
    return tmp_path


def test_a_set_alone_is_a_stream_of_one(shards):
    source = open_stream(shards)
    assert (len(source.sets), source.num_samples, source.first_ids) == (1, 18, [0])
    assert source.digest == source.sets[0].digest


def test_a_blend_is_opened_as_it_was_written(sets):
    written = write_blend(sets / "mix", {f"{sets}/a": 0.4, f"{sets}/b": 0.6}, "train")
    opened = open_stream(sets / "mix")
    assert opened == written
    assert [phase.weights for phase in opened.phases] == [(0.4, 0.6)]
    assert (opened.num_samples, opened.first_ids) == (15, [0, 9])


def test_sets_without_weights_count_by_their_size(sets):
    source = write_blend(sets / "mix", {f"{sets}/a": None, f"{sets}/b": None}, "train")
    assert [float(share) for share in source.phases[0].shares()] == [0.6, 0.4]


def test_a_blend_moves_together_with_its_sets(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train")
    moved = shutil.copytree(sets, sets / "elsewhere", ignore=lambda folder, _: ["elsewhere"])
    shutil.rmtree(sets / "a")
    locations = [part.location for part in open_stream(moved / "mix").sets]
    assert locations == [f"{moved}/a", f"{moved}/b"]


def test_a_later_phase_is_recorded_and_may_bring_a_new_set(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0}, "train")
    source = append_phase(sets / "mix", {f"{sets}/a": 0.3, f"{sets}/b": 0.7}, 64, "train")
    assert [(phase.from_sample, phase.weights) for phase in source.phases] == [
        (0, (1.0, 0.0)),
        (64, (0.3, 0.7)),
    ]
    source = append_phase(sets / "mix", {f"{sets}/b": 1.0}, 128, "train")
    assert source.phases[:2] == open_stream(sets / "mix").phases[:2]
    assert source.phases[2].weights == (0.0, 1.0)


def test_a_new_phase_takes_the_place_of_later_ones_and_of_no_earlier_one(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train")
    append_phase(sets / "mix", {f"{sets}/a": 1.0}, 64, "train")
    append_phase(sets / "mix", {f"{sets}/b": 1.0}, 128, "train")
    source = append_phase(sets / "mix", {f"{sets}/a": 2.0, f"{sets}/b": 1.0}, 128, "train")
    assert [phase.from_sample for phase in source.phases] == [0, 64, 128]
    source = append_phase(sets / "mix", {f"{sets}/b": 1.0}, 60, "train")
    assert [(phase.from_sample, phase.weights) for phase in source.phases] == [
        (0, (1.0, 1.0)),
        (60, (0.0, 1.0)),
    ]
    with pytest.raises(ValueError, match="must be above 0"):
        append_phase(sets / "mix", {f"{sets}/b": 1.0}, 0, "train")


def test_a_blend_is_made_again_by_the_same_command_and_by_no_other(sets):
    (sets / "mix").mkdir()
    first = write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train")
    assert write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train") == first
    with pytest.raises(ValueError, match="mix is not empty"):
        write_blend(sets / "mix", {f"{sets}/b": 1.0}, "train")


def test_a_blend_behind_a_link_finds_its_sets(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train")
    (sets / "deep").mkdir()
    (sets / "deep" / "link").symlink_to(sets / "mix")
    assert open_stream(sets / "deep" / "link").num_samples == 15


def test_a_blend_of_another_split_has_statistics_of_that_split(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "test")
    assert compute_stats(sets / "mix", StatsConfig(), split="test").num_samples == 5


def test_weights_of_what_is_no_blend_cannot_be_changed(sets):
    with pytest.raises(ValueError, match="no blend yet"):
        append_phase(sets / "other", {f"{sets}/b": 1.0}, 5, "train")


def test_a_set_that_changed_since_it_was_blended_is_refused(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train")
    shutil.rmtree(sets / "a")
    shutil.copytree(sets / "b", sets / "a")
    with pytest.raises(ShardError, match=r"a has changed since .*mix was made"):
        open_stream(sets / "mix")


def test_a_blend_altered_by_hand_is_refused(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train")
    path = sets / "mix" / "blend.json"
    content = json.loads(path.read_text())
    content["phases"][0]["weights"] = [0.1, 0.9]
    path.write_text(json.dumps(content))
    with pytest.raises(ShardError, match="altered by hand"):
        open_stream(sets / "mix")
    path.write_text("{")
    with pytest.raises(ShardError, match="malformed"):
        open_stream(sets / "mix")


def test_what_cannot_be_blended_is_refused_before_anything_is_written(sets):
    for weights, message in (
        ({f"{sets}/a": 1.0, f"{sets}/b": None}, "b has no weight"),
        ({f"{sets}/a": 1.0, f"{sets}/b/../a": 1.0}, "given twice"),
        ({f"{sets}/a": 0.0}, "at least one weight"),
        ({}, "at least one set"),
    ):
        with pytest.raises(ValueError, match=message):
            write_blend(sets / "mix", weights, "train")
    with pytest.raises(ShardError, match="no shard set"):
        write_blend(sets / "mix", {f"{sets}/nothing": 1.0}, "train")
    assert not (sets / "mix").exists()


def test_a_blend_of_one_split_is_not_taken_for_another(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0}, "test")
    assert open_stream(sets / "mix", "test").num_samples == 3
    with pytest.raises(ValueError, match="--split train"):
        open_stream(sets / "mix", "train")


def test_a_blend_has_one_vocabulary_and_statistics_over_all_its_sets(sets):
    write_blend(sets / "mix", {f"{sets}/a": 1.0, f"{sets}/b": 1.0}, "train")
    compute_stats(sets / "mix", StatsConfig())
    stats = CorpusStats.load(sets / "mix" / "stats")
    each = [compute_stats(sets / name, StatsConfig()) for name in "ab"]
    assert stats.num_samples == 15
    weighted = (9 * each[0].mel_mean + 6 * each[1].mel_mean) / 15
    assert stats.mel_mean == pytest.approx(weighted, rel=1e-6)
