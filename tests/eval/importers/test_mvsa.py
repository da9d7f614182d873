from pathlib import Path

import pytest
from PIL import Image

from eval.importers import ImportOptions, import_set
from eval.importers.mvsa import combine_labels, decode_text, majority
from eval.importers.near_duplicates import with_clusters
from eval.importers.rows import LabelledRow
from eval.tasks import load_task

SENTIMENTS = ("positive", "neutral", "negative")


def picture(path: Path, shade: int):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (48, 40), (shade, 255 - shade, 90))
    image.paste((shade // 2, 20, 200), (5, 5, 30, 20))
    image.save(path)


@pytest.fixture
def authors_layout(tmp_path):
    folder = tmp_path / "MVSA_Single"
    rows = {
        "1": ("positive", "positive", b"What a lovely day"),
        "2": ("positive", "neutral", b"Nice bus ride to work"),
        "3": ("neutral", "negative", "今天很糟糕".encode("gb18030")),
        "4": ("positive", "negative", b"dropped: the labels disagree"),
        "5": ("neutral", "neutral", b"RT @ann: What a LOVELY day! http://t.co/x"),
        "6": ("negative", "negative", b"caf\xe9 closed"),
        "7": ("negative", "negative", b"no picture"),
        "8": ("neutral", "neutral", b"   "),
    }
    lines = ["ID\ttext,image"]
    for name, (text_label, image_label, content) in rows.items():
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "data" / f"{name}.txt").write_bytes(content)
        if name != "7":
            picture(folder / "data" / f"{name}.jpg", 20 * int(name))
        lines.append(f"{name}\t{text_label},{image_label}")
    (folder / "labelResultAll.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("text", "image", "joint"),
    [
        ("positive", "positive", "positive"),
        ("positive", "neutral", "positive"),
        ("neutral", "negative", "negative"),
        ("neutral", "neutral", "neutral"),
        ("positive", "negative", None),
        ("negative", "positive", None),
    ],
)
def test_one_label_is_made_of_two_as_published(text, image, joint):
    assert combine_labels(text, image, "xu-mao-2017") == joint
    assert combine_labels(text, image, "agreeing") == (text if text == image else None)


def test_text_is_tried_as_utf8_then_gb18030_then_latin1():
    assert decode_text("gut, très bien".encode()) == ("gut, très bien", "utf-8")
    assert decode_text("今天很糟糕".encode("gb18030")) == ("今天很糟糕", "gb18030")
    assert decode_text(b"caf\xe9 closed") == ("café closed", "latin-1")


def test_the_authors_layout_becomes_a_task_with_every_drop_counted(authors_layout, tmp_path):
    task = import_set("mvsa-single", authors_layout, tmp_path / "task")
    assert task.card.classes == SENTIMENTS
    assert task.shards.num_samples == 5
    notes = "\n".join(task.card.notes)
    for words in (
        "one label positive, the other negative: 1",
        "text or picture missing: 1",
        "empty text: 1",
        "decoded as gb18030: 1",
        "decoded as latin-1: 1",
        "pairs labelled positive: 2",
        "pairs labelled negative: 2",
    ):
        assert words in notes
    assert load_task(tmp_path / "task").card == task.card


def test_agreeing_pairs_alone_are_another_task(authors_layout, tmp_path):
    options = ImportOptions(protocol="agreeing")
    task = import_set("mvsa-single", authors_layout, tmp_path / "task", options)
    assert task.name == "mvsa-single-agreeing"
    assert task.shards.num_samples == 3
    notes = "\n".join(task.card.notes)
    assert "dropped: the two labels differ: 3" in notes
    assert "differs from the published set: 3 rows where 2592 were published" in notes


def test_two_of_three_annotators_decide_in_mvsa_multiple(authors_layout, tmp_path):
    lines = [
        "ID\ttext,image\ttext,image\ttext,image",
        "1\tpositive,neutral\tpositive,neutral\tnegative,negative",
        "2\tpositive,positive\tneutral,positive\tnegative,positive",
        "3\tnegative,negative\tnegative,neutral\tneutral,negative",
        "6\tpositive,negative\tpositive,negative\tpositive,negative",
        "5\tneutral,neutral\tneutral,neutral\tpositive,neutral",
    ]
    (authors_layout / "labelResultAll.txt").write_text("\n".join(lines) + "\n")
    task = import_set("mvsa-multiple", authors_layout, tmp_path / "task")
    notes = "\n".join(task.card.notes)
    for words in (
        "no two annotators agree on the text or the picture: 1",
        "one label positive, the other negative: 1",
        *(f"pairs labelled {name}: 1" for name in SENTIMENTS),
    ):
        assert words in notes
    with pytest.raises(ValueError, match=r"line 2: expected 'ID<tab>text,image' and labels"):
        import_set("mvsa-single", authors_layout, tmp_path / "other")


def test_a_majority_needs_two_of_three():
    assert majority(["positive", "neutral", "positive"]) == "positive"
    assert majority(["positive", "neutral", "negative"]) is None


def test_another_folder_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"neither labelResultAll\.txt"):
        import_set("mvsa-single", tmp_path, tmp_path / "task")
    assert list(tmp_path.iterdir()) == []


def test_a_label_that_is_none_of_the_three_names_its_line(authors_layout, tmp_path):
    with (authors_layout / "labelResultAll.txt").open("a") as stream:
        stream.write("9\tpositive,joy\n")
    with pytest.raises(ValueError, match="line 10: expected"):
        import_set("mvsa-single", authors_layout, tmp_path / "task")
    assert not (tmp_path / "task").exists()


def test_content_that_is_there_already_is_kept(authors_layout, tmp_path):
    out = tmp_path / "task"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        import_set("mvsa-single", authors_layout, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_equal_pictures_or_equal_words_form_one_group(tmp_path):
    for name, shade in (("a", 10), ("b", 90), ("c", 90), ("d", 200)):
        picture(tmp_path / f"{name}.png", shade)
    rows = [
        LabelledRow(row_id=name, text=text, image=tmp_path / f"{picture}.png", labels={})
        for name, text, picture in (
            ("1", "What a lovely day", "a"),
            ("2", "RT @ann: what a LOVELY day!! https://t.co/x", "b"),
            ("3", "other words", "c"),
            ("4", "alone", "d"),
        )
    ]
    linked = {row.row_id: row.group for row in with_clusters(rows, texts=True)}
    assert linked == {"1": "1", "2": "1", "3": "1", "4": "4"}
    pictures = {row.row_id: row.group for row in with_clusters(rows, texts=False)}
    assert pictures == {"1": "1", "2": "2", "3": "2", "4": "4"}
