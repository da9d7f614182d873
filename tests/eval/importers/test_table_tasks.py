"""Tables of one's own as tasks: columns, groups, parts, numbers as labels."""

import json
from dataclasses import replace

import pytest

from data_sharding.reading.reader import ShardReader
from eval.importers import TableConfig, import_table
from eval.samples import read_samples
from pretrain.models import Backbone
from tiny_corpus import write_image, write_tone


def write_csv(folder, lines, name="manifest.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return folder / name


@pytest.fixture
def table(tmp_path):
    """Six rows of three speakers; two rows share a picture, one lacks its label."""
    folder = tmp_path / "own set"
    for number in range(4):
        folder.mkdir(exist_ok=True)
        write_image(folder / f"{number}.jpg", number)
        write_tone(folder / f"{number}.wav", number)
    lines = ["name,words,picture,audio,mood,speaker,part"]
    for number, mood in enumerate(("good", "bad", "good", "bad", "", "good")):
        picture = f"{min(number, 3)}.jpg"
        part = ("train", "train", "train", "test", "test", "test")[number]
        words = f"row number {number} of the table"
        lines.append(f"r{number},{words},{picture},{number}.wav,{mood},s{number // 2},{part}")
    return write_csv(folder, lines)


COLUMNS = {"id": "name", "text": "words", "image": "picture"}


def test_columns_are_mapped_and_what_is_dropped_or_missing_is_counted(table, tmp_path):
    config = TableConfig(label="mood", group="speaker", columns=COLUMNS, licence="cc0-1.0")
    task = import_table(table, tmp_path / "task", config)
    assert task.name == "own set"
    assert task.card.classes == ("bad", "good")
    assert task.shards.present == {"text": 5, "image": 5, "audio": 4}
    assert "dropped: no label: 1" in task.card.notes
    assert "rows whose audio file is missing: 1" in task.card.notes
    assert task.shards.licence == "cc0-1.0"


def test_without_a_group_column_rows_that_share_a_medium_are_one_group(table, tmp_path):
    task = import_table(table, tmp_path / "task", TableConfig(label="mood", columns=COLUMNS))
    assert "groups: rows that share a picture, a recording or their words" in task.card.notes
    groups = [sample["metadata"]["group"] for sample in samples_of(task)]
    assert groups == ["r0", "r1", "r2", "r3", "r3"]


def samples_of(task):
    reader = ShardReader(task.shards)
    count = task.shards.num_samples
    return [json.loads(bytes(reader.read(number).members["json"])) for number in range(count)]


def test_parts_of_a_column_are_kept_and_lacking_validation_comes_from_training(table, tmp_path):
    config = TableConfig(label="mood", parts="part", columns=COLUMNS)
    task = import_table(table, tmp_path / "task", config)
    assert task.card.fixed_parts == ("train", "validation", "test")
    assert [part.num_samples for part in task.parts] == [2, 1, 2]
    assert "no validation rows: 1 of 3 training groups, by hash" in task.card.notes


def test_the_first_rows_of_jsonl_may_lack_their_label(tmp_path):
    rows = [{"id": "a", "text": "no label yet"}, *(
        {"id": f"r{n}", "text": f"text {n}", "mood": "good" if n % 2 else "bad"} for n in range(4)
    )]  # fmt: skip
    path = write_csv(tmp_path / "own", map(json.dumps, rows), "rows.jsonl")
    task = import_table(path, tmp_path / "task", TableConfig(label="mood"))
    assert task.shards.num_samples == 4
    assert "dropped: no label: 1" in task.card.notes
    with pytest.raises(ValueError, match="has no column 'feeling'; it has id, mood, text"):
        import_table(path, tmp_path / "other", TableConfig(label="feeling"))


def test_a_table_whose_parts_fall_short_is_told_of_its_own_option(tmp_path):
    lines = ["id,text,mood,part,video"]
    lines += [f"{n},text {n},{'ab'[n % 2]},train,v{n}" for n in range(6)]
    config = TableConfig(label="mood", parts="part", group="video")
    with pytest.raises(ValueError, match="test part; leaving --parts out splits what is here by"):
        import_table(write_csv(tmp_path / "own", lines), tmp_path / "task", config)
    lines += ["7,text 7,a,test,v1", "8,text 8,b,test,v8"]
    task = import_table(write_csv(tmp_path / "own", lines), tmp_path / "task", config)
    assert "leaving --parts out keeps them whole" in task.card.notes[-1]


def test_a_part_of_another_name_is_refused(table, tmp_path):
    config = TableConfig(label="mood", parts="speaker", columns=COLUMNS)
    with pytest.raises(ValueError, match="speaker is 's0', none of train, validation, test"):
        import_table(table, tmp_path / "task", config)


def test_numbers_within_a_range_make_a_regression_task(tmp_path):
    rows = [{"id": str(n), "text": f"text {n}", "labels": {"joy": n / 4 - 1}} for n in range(8)]
    folder = tmp_path / "joy"
    path = write_csv(folder, [json.dumps(row) for row in rows], "rows.jsonl")
    task = import_table(path, tmp_path / "task", TableConfig(label="joy", label_range=(-1.0, 1.0)))
    assert (task.card.class_cuts, task.card.metric, task.card.classes) == ("sign", "mae", ())
    narrow = TableConfig(label="joy", label_range=(0.0, 1.0))
    with pytest.raises(
        ValueError, match=r"row 1: label '-1\.0' is no number within \(0\.0, 1\.0\)"
    ):
        import_table(path, tmp_path / "other", narrow)


def test_a_path_that_leads_out_of_the_folder_is_refused_and_a_wider_root_allows_it(tmp_path):
    (tmp_path / "media").mkdir()
    write_image(tmp_path / "media" / "a.jpg", 1)
    lines = ["id,text,image,mood", "1,one,../media/a.jpg,good", "2,two,,bad"]
    path = write_csv(tmp_path / "own", lines)
    with pytest.raises(ValueError, match=r"does not lie below .*--media-root names a folder"):
        import_table(path, tmp_path / "task", TableConfig(label="mood"))
    config = TableConfig(label="mood", media_root=tmp_path)
    assert import_table(path, tmp_path / "task", config).shards.present["image"] == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (TableConfig(label="feeling"), "has no column 'feeling'; it has audio, mood, name"),
        (TableConfig(label="mood", classes=("good", "fine")), "label 'bad' is none of good, fine"),
        (TableConfig(label="mood", group="city"), "row 1: no 'city', its group"),
    ],
)
def test_what_the_table_does_not_have_is_named(table, tmp_path, config, words):
    with pytest.raises(ValueError, match=words):
        import_table(table, tmp_path / "task", config)
    assert not (tmp_path / "task").exists()


def test_a_table_that_is_not_there_or_of_another_kind_is_told_as_that(tmp_path):
    config, out = TableConfig(label="mood"), tmp_path / "task"
    with pytest.raises(ValueError, match=r"nothing\.csv: no such file"):
        import_table(tmp_path / "nothing.csv", out, config)
    other = write_csv(tmp_path / "own", ["text,mood"], "table.xlsx")
    with pytest.raises(ValueError, match=r"a table is a file ending in \.csv or \.jsonl"):
        import_table(other, out, config)


@pytest.mark.parametrize("name", ["own.csv", "own.jsonl"])
def test_a_table_that_is_no_utf8_is_named_with_its_first_wrong_line(tmp_path, name):
    rows = [json.dumps({"text": f"text {n}", "mood": "good"}) for n in range(5000)]
    lines = ["text,mood", *rows] if name.endswith("csv") else ["", *rows]
    content = "\n".join(lines).encode().split(b"\n")
    content[4000] = content[4000].replace(b"text", "café".encode("latin-1"))
    (tmp_path / name).write_bytes(b"\n".join(content))
    told = rf"{name}, line 4001: no UTF-8 \(.*, 0xe9\); save the table as UTF-8"
    with pytest.raises(ValueError, match=told):
        import_table(tmp_path / name, tmp_path / "task", TableConfig(label="mood"))


def test_a_label_that_the_card_does_not_know_is_told_with_the_cards_file(
    table, checkpoint, tmp_path
):
    backbone = Backbone.load(checkpoint.backbone)
    task = import_table(table, tmp_path / "task", TableConfig(label="mood", columns=COLUMNS))
    few = replace(task, card=replace(task.card, classes=("bad", "fine")))
    told = r"'good', which is none of bad, fine; add it to classes in .*task/task\.json, or take"
    with pytest.raises(ValueError, match=told):
        read_samples(backbone, few, 4, {})
    numbers = replace(
        task.card, classes=(), label_range=(0.0, 1.0), class_cuts="none", metric="mae"
    )
    told = r"no number within \(0\.0, 1\.0\); widen label_range in .*task/task\.json, or take"
    with pytest.raises(ValueError, match=told):
        read_samples(backbone, replace(task, card=numbers), 4, {})


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="--classes or --label-range, not both"):
        TableConfig(label="mood", classes=("a", "b"), label_range=(0.0, 1.0))
    with pytest.raises(ValueError, match="--cuts is for a regression task"):
        TableConfig(label="mood", cuts="mosi")
    with pytest.raises(ValueError, match=r"--columns maps \['mood'\]"):
        TableConfig(label="mood", columns={"mood": "m"})


def test_the_digest_does_not_depend_on_where_the_set_lay(table, tmp_path):
    config = TableConfig(label="mood", group="speaker", columns=COLUMNS, name="mood")
    one = import_table(table, tmp_path / "one", config)
    table.parent.rename(tmp_path / "elsewhere")
    other = import_table(tmp_path / "elsewhere" / table.name, tmp_path / "two", config)
    assert one.shards.digest == other.shards.digest
