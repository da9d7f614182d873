import json
from dataclasses import replace

import pytest

from data_sharding.manifest import ShardSet
from data_sharding.stream.blend import Phase
from data_sharding.stream.source import StreamSource, append_phase, open_stream, write_blend
from launch.run_data import DATA_FILE, check_data


@pytest.fixture
def blend(tmp_path, sample_shards):
    """Two splits of the sample corpus would do as well; a set and its copy by another name."""
    (tmp_path / "copy").symlink_to(sample_shards)
    write_blend(tmp_path / "mix", {str(sample_shards): 3.0, str(tmp_path / "copy"): 1.0}, "train")
    return tmp_path / "mix"


def test_a_run_records_its_sets_and_weights(tmp_path, blend):
    check_data(tmp_path, open_stream(blend), 0, 16).write(tmp_path)
    record = json.loads((tmp_path / DATA_FILE).read_text())
    assert [entry["num_samples"] for entry in record["sets"]] == [297, 297]
    assert record["phases"] == [[0, [3.0, 1.0]]]


def test_weights_may_change_for_samples_that_are_still_to_come(tmp_path, blend, sample_shards):
    check_data(tmp_path, open_stream(blend), 0, 16).write(tmp_path)
    weights = {str(sample_shards): 1.0, str(tmp_path / "copy"): 1.0}
    append_phase(blend, weights, 640, "train")
    check_data(tmp_path, open_stream(blend), 640, 16).write(tmp_path)
    assert json.loads((tmp_path / DATA_FILE).read_text())["phases"][1] == [640, [1.0, 1.0]]


def test_weights_of_samples_already_read_are_refused(tmp_path, blend, sample_shards):
    check_data(tmp_path, open_stream(blend), 0, 16).write(tmp_path)
    weights = {str(sample_shards): 1.0, str(tmp_path / "copy"): 1.0}
    append_phase(blend, weights, 320, "train")
    with pytest.raises(ValueError, match="weights before sample 640"):
        check_data(tmp_path, open_stream(blend), 640, 16)


def test_a_set_that_was_altered_is_refused(tmp_path, sample_shards):
    source = StreamSource.of(ShardSet.open(sample_shards, "train"))
    check_data(tmp_path, source, 0, 16).write(tmp_path)
    altered = replace(source, sets=(replace(source.sets[0], digest="0" * 64),))
    with pytest.raises(ValueError, match="altered or is gone"):
        check_data(tmp_path, altered, 64, 16)


def test_a_new_set_may_join_later(tmp_path, sample_shards):
    one = ShardSet.open(sample_shards, "train")
    check_data(tmp_path, StreamSource.of(one), 0, 16).write(tmp_path)
    phases = (
        Phase(from_sample=0, weights=(1.0, 0.0)),
        Phase(from_sample=640, weights=(1.0, 1.0)),
    )
    joined = StreamSource(sets=(one, one), phases=phases, digest="x")
    assert len(check_data(tmp_path, joined, 640, 16).sets) == 2
