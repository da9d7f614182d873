import pytest

from data_sharding.schema import Record
from data_sharding.sources import find_manifest, read_rows


def records(path, text, columns=None):
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return [row.content for row in read_rows(path, columns)]


def reasons(path, text):
    rows = records(path, text)
    return ["" if isinstance(content, Record) else content.reason for content in rows]


def test_csv_columns_become_fields_labels_and_metadata(tmp_path):
    text = 'id,text,image,label.mood,speaker\na,"two\nlines, one row",a.jpg,happy,7\n,b,,,\n'
    assert records(tmp_path / "manifest.csv", text) == [
        Record(
            id="a",
            text="two\nlines, one row",
            image="a.jpg",
            labels={"mood": "happy"},
            metadata={"speaker": "7"},
        ),
        Record(id="row-2", text="b"),
    ]


def test_jsonl_keys_become_the_same_record(tmp_path):
    line = (
        '{"id": 5, "text": "t", "audio": "a.wav", "split": "test", "labels": {"mood": "sad"},'
        ' "metadata": {"speaker": [1, 2]}, "source": "web"}\n\n'
    )
    assert records(tmp_path / "manifest.jsonl", line) == [
        Record(
            id="5",
            text="t",
            audio="a.wav",
            split="test",
            labels={"mood": "sad"},
            metadata={"speaker": [1, 2], "source": "web"},
        )
    ]


def test_columns_can_be_mapped_by_name(tmp_path):
    mapping = {"image": "picture", "label.mood": "emotion"}
    text = "picture,emotion,image\nx.jpg,glad,ignored\n"
    (record,) = records(tmp_path / "manifest.csv", text, mapping)
    assert (record.image, record.labels) == ("x.jpg", {"mood": "glad"})
    line = '{"picture": "x.jpg", "emotion": "glad"}\n'
    (record,) = records(tmp_path / "manifest.jsonl", line, mapping)
    assert (record.image, record.labels) == ("x.jpg", {"mood": "glad"})


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (record,) = records(tmp_path / "manifest.csv", "\ufefftext\nhello\n")
    assert record.text == "hello"


def test_bad_rows_are_rejected_and_the_others_read(tmp_path):
    text = "text,image\na,b.jpg\nonly one cell\nc,d.jpg,surplus\n\udcff,e.jpg\nf,g.jpg\n"
    expected = ["", "bad-row", "bad-row", "invalid-utf8", ""]
    assert reasons(tmp_path / "manifest.csv", text) == expected


def test_a_csv_without_known_columns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no column text, image or audio; it has caption"):
        records(tmp_path / "manifest.csv", "caption\na\n")
    with pytest.raises(ValueError, match="no column 'picture'; it has text"):
        records(tmp_path / "manifest.csv", "text\na\n", {"image": "picture"})
    with pytest.raises(ValueError, match="text more than once"):
        records(tmp_path / "manifest.csv", "text,text\na,b\n")


def test_a_mapping_of_an_unknown_field_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'pictures', which is none of id, text, image"):
        records(tmp_path / "manifest.csv", "text\na\n", {"pictures": "text"})


def test_the_manifest_of_a_folder_is_found_or_asked_for(tmp_path):
    with pytest.raises(ValueError, match="holds neither"):
        find_manifest(tmp_path)
    (tmp_path / "manifest.csv").touch()
    assert find_manifest(tmp_path) == tmp_path / "manifest.csv"
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(ValueError, match="holds both"):
        find_manifest(tmp_path)
    with pytest.raises(ValueError, match="no such manifest"):
        find_manifest(tmp_path / "nowhere")
    (tmp_path / "list.txt").touch()
    with pytest.raises(ValueError, match=r"not '\.txt'"):
        find_manifest(tmp_path / "list.txt")
