import dataclasses
import json

import pytest

from data_sharding.schema import ShardError
from eval.tasks import TaskCard, load_task, open_task, save_card


def test_the_built_in_task_holds_the_probe_pictures_alone(topics, sample_shards):
    assert topics.card.split == "probe"
    assert len(topics.card.classes) >= 8
    assert set(topics.shards.splits) == {"train", "probe"}
    assert {shard.split for shard in topics.shards.shards} == {"probe"}


def test_the_built_in_task_is_sharded_once(topics):
    before = (topics.folder / "manifest.json").stat().st_mtime_ns
    again = load_task("sample-topics", topics.folder.parent)
    assert again.folder == topics.folder
    assert (topics.folder / "manifest.json").stat().st_mtime_ns == before


def test_a_task_killed_while_it_was_sharded_is_sharded_anew(topics, tmp_path):
    unfinished = tmp_path / topics.folder.name
    unfinished.mkdir()
    (unfinished / "shard-000000.tar").write_bytes(b"half")
    again = load_task("sample-topics", tmp_path)
    assert again.shards.digest == topics.shards.digest


def test_a_name_that_is_no_task_lists_the_built_in_ones(tmp_path):
    with pytest.raises(ValueError, match=r"neither a task folder nor a built-in.*sample-topics"):
        load_task("sample-topic")
    with pytest.raises(ValueError, match=r"no task\.json"):
        open_task(tmp_path)


def test_a_card_on_a_folder_without_shards_is_refused(topics, tmp_path):
    with pytest.raises(ShardError):
        save_card(tmp_path, topics.card)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_field_of_a_card_is_named(topics, tmp_path):
    record = topics.card.to_json() | {"lable_key": "topic"}
    (tmp_path / "task.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="lable_key"):
        open_task(tmp_path)


def test_a_card_of_another_format_is_refused(topics, tmp_path):
    with pytest.raises(ValueError, match="format 7"):
        TaskCard.from_json(topics.card.to_json() | {"format": 7}, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes", ("one",)),
        ("classes", ("one", "one")),
        ("modalities", ("smell",)),
        ("name", "../up"),
    ],
)
def test_nonsense_on_a_card_is_refused(topics, field, value):
    with pytest.raises(ValueError, match="task"):
        dataclasses.replace(topics.card, **{field: value})
