import datetime
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from data_sharding.schema import Medium, Record, Rejection
from data_sharding.sources import Source, SourceConfig, open_source
from data_sharding.sources.fields import tidy_language


def contents(path, columns=None):
    source = open_source(str(path), SourceConfig(columns=columns or {}))
    assert isinstance(source, Source)
    return [row.content for row in source.rows()]


def records(path, text, columns=None):
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return contents(path, columns)


def reasons(found):
    return ["" if isinstance(content, Record) else content.reason for content in found]


def parquet_file(path, table):
    parquet.write_table(table, path, row_group_size=2)
    return path


def test_csv_columns_become_fields_labels_and_metadata(tmp_path):
    text = 'id,text,image,label.mood,speaker\na,"two\nlines, one row",a.jpg,happy,7\n,b,,,\n'
    assert records(tmp_path / "manifest.csv", text) == [
        Record(
            id="a",
            text="two\nlines, one row",
            image=Medium(path="a.jpg"),
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
            audio=Medium(path="a.wav"),
            split="test",
            labels={"mood": "sad"},
            metadata={"speaker": [1, 2], "source": "web"},
        )
    ]


def test_parquet_columns_and_structs_become_the_same_record(tmp_path):
    texts = pa.array(["t", "u", "t"]).dictionary_encode()
    table = pa.table(
        {
            "id": pa.array([5, 6, None]),
            "text": texts,
            "audio": pa.array(["a.wav", None, ""], pa.large_string()),
            "labels": [{"mood": "sad"}, None, {"mood": None}],
            "metadata": [{"speaker": [1, 2]}, None, None],
            "day": [datetime.date(2020, 1, 2), None, None],
        }
    )
    found = contents(parquet_file(tmp_path / "rows.parquet", table))
    assert found == [
        Record(
            id="5",
            text="t",
            audio=Medium(path="a.wav"),
            labels={"mood": "sad"},
            metadata={"speaker": [1, 2], "day": "2020-01-02"},
        ),
        Record(id="6", text="u"),
        Record(id="row-3", text="t"),
    ]


def test_one_broken_text_of_a_parquet_file_costs_one_row(tmp_path):
    raw = pa.array([b"a", b"\xff\xfe", b"c"], pa.binary())
    broken = pa.StringArray.from_buffers(3, *raw.buffers()[1:])
    found = contents(parquet_file(tmp_path / "rows.parquet", pa.table({"text": broken})))
    assert reasons(found) == ["", "invalid-utf8", ""]
    found = contents(parquet_file(tmp_path / "raw.parquet", pa.table({"text": raw})))
    assert reasons(found) == ["", "invalid-utf8", ""]


def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path):
    path = parquet_file(tmp_path / "rows.parquet", pa.table({"text": ["a"] * 100}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"rows.parquet: no whole Parquet file"):
        contents(path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_columns_can_be_mapped_by_name_in_every_kind_of_manifest(tmp_path, suffix):
    row = {"picture": "x.jpg", "emotion": "glad", "lang": "pt_BR", "image": "ignored"}
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        parquet_file(path, pa.Table.from_pylist([row]))
    elif suffix == "jsonl":
        path.write_text(json.dumps(row))
    else:
        path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    mapping = {
        "image": "picture",
        "label.mood": "emotion",
        "language": "lang",
        "metadata.feeling": "emotion",
    }
    (record,) = contents(path, mapping)
    assert record.image == Medium(path="x.jpg")
    assert record.labels == {"mood": "glad"}
    assert record.metadata == {"language": "pt-br", "feeling": "glad"}
    with pytest.raises(ValueError, match=r"no column 'portrait'; it has picture, emotion, lang"):
        contents(path, {"image": "portrait"})


def test_a_language_is_kept_in_one_form_and_an_odd_one_as_it_is():
    found = [tidy_language(tag) for tag in ("EN", "pt_BR", " zh-Hant-TW ", "Klingon!", "?")]
    assert found == ["en", "pt-br", "zh-hant-tw", "Klingon!", "?"]


def test_metadata_may_use_the_name_of_a_field(tmp_path):
    line = '{"text": "t", "metadata": {"text": "seen by OCR", "split": "x"}}\n'
    (record,) = records(tmp_path / "manifest.jsonl", line)
    assert (record.text, record.split) == ("t", "train")
    assert record.metadata == {"text": "seen by OCR", "split": "x"}


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (record,) = records(tmp_path / "manifest.csv", "\ufefftext\nhello\n")
    assert record.text == "hello"


def test_bad_rows_are_rejected_and_the_others_read(tmp_path):
    text = "text,image\na,b.jpg\nonly one cell\nc,d.jpg,surplus\n\udcff,e.jpg\nf,g.jpg\n"
    expected = ["", "bad-row", "bad-row", "invalid-utf8", ""]
    assert reasons(records(tmp_path / "manifest.csv", text)) == expected
    lines = (
        '{"text": "a"}\nnot json\n[1]\n{"text": [["a"]]}\n{"text": "\\ud800"}\n{"text": "\udcff"}\n'
        '{"text": "a", "metadata": {"x": NaN}}\n{"labels": 1, "text": "a"}\n'
        f'{{"text": {"[" * 100_000}}}\n{{"text": "z"}}\n'
    )
    bad, half = "bad-row", "invalid-utf8"
    expected = ["", bad, bad, bad, half, half, bad, bad, bad, ""]
    assert reasons(records(tmp_path / "manifest.jsonl", lines)) == expected


@given(st.binary(max_size=200))
def test_no_bytes_of_a_manifest_end_the_job(tmp_path_factory, noise):
    path = tmp_path_factory.mktemp("noise") / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + noise.replace(b"\n", b"") + b'\n{"text": "z"}\n')
    found = contents(path)
    assert [found[0].text, found[-1].text] == ["a", "z"]
    assert all(isinstance(content, Record | Rejection) for content in found)


def test_a_manifest_without_known_columns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no column text, image or audio; it has caption"):
        records(tmp_path / "manifest.csv", "caption\na\n")
    with pytest.raises(ValueError, match="no column text, image or audio; it has caption"):
        records(tmp_path / "manifest.jsonl", '{"caption": "a"}\n')
    with pytest.raises(ValueError, match="no column 'picture'; it has text"):
        records(tmp_path / "manifest.csv", "text\na\n", {"image": "picture"})
    with pytest.raises(ValueError, match="text more than once"):
        records(tmp_path / "manifest.csv", "text,text\na,b\n")


def test_a_parquet_file_with_embedded_pictures_is_refused_with_advice(tmp_path):
    for cell in (b"bytes", {"bytes": b"bytes", "path": "a.jpg"}):
        path = parquet_file(tmp_path / "rows.parquet", pa.Table.from_pylist([{"picture": cell}]))
        with pytest.raises(ValueError, match="'picture' holds the files themselves"):
            contents(path, {"image": "picture"})


def test_a_mapping_of_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="'pictures', which is none of id, text, image"):
        SourceConfig(columns={"pictures": "text"})
    with pytest.raises(ValueError, match="media_root is for manifests"):
        SourceConfig(layout="tars", media_root="elsewhere")


def test_media_may_lie_in_another_folder_than_the_manifest(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("image\na.jpg\n")
    assert open_source(str(path), SourceConfig()).root == str(tmp_path)
    assert open_source(str(path), SourceConfig(media_root="/media")).root == "/media"


def test_the_manifest_of_a_folder_is_found_or_asked_for(tmp_path):
    only_manifests = SourceConfig(layout="manifest")
    with pytest.raises(ValueError, match=r"holds none of manifest\.jsonl"):
        open_source(str(tmp_path), only_manifests)
    (tmp_path / "manifest.csv").write_text("text\na\n")
    (row,) = open_source(str(tmp_path), SourceConfig()).rows()
    assert row.number == 1
    (tmp_path / "manifest.jsonl").touch()
    with pytest.raises(ValueError, match=r"holds 2 of .*; name the manifest file"):
        open_source(str(tmp_path), SourceConfig())
    with pytest.raises(ValueError, match="no such manifest"):
        open_source(str(tmp_path / "nowhere.csv"), SourceConfig())
    with pytest.raises(ValueError, match="no such corpus"):
        open_source(str(tmp_path / "nowhere"), SourceConfig())
    (tmp_path / "list.txt").touch()
    with pytest.raises(ValueError, match=r"not '\.txt'"):
        open_source(str(tmp_path / "list.txt"), SourceConfig())


def test_a_corpus_is_known_by_the_bytes_of_its_manifest(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text\na\n")
    (first,) = open_source(str(path), SourceConfig()).fingerprint()
    assert first["file"] == "rows.csv"
    path.write_text("text\nb\n")
    (second,) = open_source(str(path), SourceConfig()).fingerprint()
    assert first["sha256"] != second["sha256"]


def test_a_pipe_is_never_run_as_a_corpus(tmp_path):
    for location in (f"pipe:touch {tmp_path}/ran", "simplecache::s3://x/y.csv"):
        with pytest.raises(ValueError, match="never run"):
            open_source(location, SourceConfig())
    assert not (tmp_path / "ran").exists()
