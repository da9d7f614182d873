import os

import pytest

from data_sharding.schema import Medium, Record, Rejection
from data_sharding.sources import SourceConfig, open_source


def fill(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def contents(location, columns=None):
    config = SourceConfig(columns=columns or {})
    return [row.content for row in open_source(location, config).rows()]


def test_files_of_one_name_form_one_sample(tmp_path):
    corpus = fill(
        tmp_path,
        {
            "a/b/cat.jpg": "J",
            "a/b/cat.TXT": "a cat",
            "a/b/cat.flac": "F",
            "a/b/cat.json": '{"labels": {"kind": "pet"}, "metadata": {"x": 1}, "source": "web"}',
            "dog.webp": "W",
            "dog.json": '{"id": "the dog", "language": "EN"}',
            "v1.2.png": "P",
            "a/notes.pdf": "ignored",
            ".hidden/x.jpg": "ignored",
            ".DS_Store": "ignored",
            "._dog.jpg": "ignored",
        },
    )
    assert contents(corpus) == [
        Record(id="the dog", image=Medium(path="dog.webp"), metadata={"language": "en"}),
        Record(id="v1.2", image=Medium(path="v1.2.png")),
        Record(
            id="a/b/cat",
            text="a cat",
            image=Medium(path="a/b/cat.jpg"),
            audio=Medium(path="a/b/cat.flac"),
            labels={"kind": "pet"},
            metadata={"x": 1, "source": "web"},
        ),
    ]


def test_two_pictures_of_one_name_are_a_bad_row(tmp_path):
    corpus = fill(tmp_path, {"a.jpg": "J", "a.png": "P", "b.jpg": "J", "c.jpg": "J", "c.JPG": "J"})
    found = contents(corpus)
    bad = [content.detail for content in found if isinstance(content, Rejection)]
    assert bad == [
        "'a.jpg' and 'a.png' of 'a' are both image",
        "'c.JPG' and 'c.jpg' of 'c' are both image",
    ]


def test_a_key_of_the_cards_can_be_the_text(tmp_path):
    card = '{"caption": "from the card", "split": "web", "lang": "de"}'
    corpus = fill(tmp_path, {"a.jpg": "J", "a.json": card, "b.txt": "own", "b.json": card})
    first, second = contents(corpus, {"text": "caption", "language": "lang"})
    assert (first.text, second.text) == ("from the card", "own")
    assert first.metadata == {"language": "de", "split": "web"}
    assert first.split == "train"


def test_fault_9_texts_and_cards_that_cannot_be_read_are_rejected(tmp_path):
    corpus = fill(
        tmp_path,
        {"a.txt": b"\xff\xfe", "b.json": b"[1]", "b.txt": "b", "c.json": b"{", "c.txt": "c"},
    )
    with (tmp_path / "d.txt").open("wb") as file:
        file.truncate(100_000_000)  # a hole: nothing on the disk
    found = contents(corpus)
    assert [content.reason for content in found] == [
        "invalid-utf8",
        "bad-row",
        "bad-row",
        "file-too-large",
    ]


def test_fault_15_links_lead_nowhere_out_of_the_folder(tmp_path):
    fill(tmp_path, {"secret.txt": "secret", "outside/x.txt": "secret"})
    corpus = tmp_path / "corpus"
    fill(corpus, {"a.txt": "a"})
    (corpus / "b.txt").symlink_to(tmp_path / "secret.txt")
    (corpus / "c").symlink_to(tmp_path / "outside")
    (corpus / "loop").symlink_to(corpus)
    first, second = contents(str(corpus))
    assert first.text == "a"
    assert second.reason == "outside-corpus"


def test_a_name_that_is_no_text_is_a_bad_row_and_the_others_are_read(tmp_path):
    corpus = fill(tmp_path, {"a.txt": "a"})
    with open(os.fsencode(corpus) + b"/\xff.txt", "wb") as file:
        file.write(b"b")
    assert [type(content) for content in contents(corpus)] == [Record, Rejection]


def test_a_folder_is_known_by_its_names_and_sizes(tmp_path):
    corpus = fill(tmp_path, {"a.txt": "a", "b/c.txt": "c"})

    def mark():
        return open_source(corpus, SourceConfig()).fingerprint()[0]["names_sha256"]

    before = mark()
    assert mark() == before
    fill(tmp_path, {"b/c.txt": "changed"})
    assert mark() != before


def test_a_folder_without_samples_is_refused(tmp_path):
    fill(tmp_path, {"notes.pdf": "x", "README": "x"})
    with pytest.raises(ValueError, match=r"no file of a known kind \(txt, jpg"):
        contents(str(tmp_path))
    with pytest.raises(ValueError, match="a folder holds its files themselves"):
        open_source(str(tmp_path), SourceConfig(layout="folder", columns={"image": "x"}))
    with pytest.raises(ValueError, match="no such folder"):
        open_source(str(tmp_path / "gone"), SourceConfig(layout="folder"))
