import io
import json
import tarfile

import pytest
from webdataset import TarWriter

from data_sharding.cleaning.clean import CleanConfig, check_record, collect_members
from data_sharding.cleaning.media import read_medium
from data_sharding.retry import RetryConfig
from data_sharding.schema import Medium, Record, Rejection
from data_sharding.sources import SourceConfig, open_source
from tiny_corpus import write_image, write_tone


def write_tar(path, members):
    """Members in order; a name may come twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def contents(location, columns=None):
    config = SourceConfig(columns=columns or {})
    return [row.content for row in open_source(str(location), config).rows()]


def reasons(location):
    found = contents(location)
    return ["" if isinstance(content, Record) else content.reason for content in found]


@pytest.fixture
def media(tmp_path):
    write_image(tmp_path / "a.jpg", 1)
    write_tone(tmp_path / "a.flac", 1)
    return {kind: (tmp_path / f"a.{kind}").read_bytes() for kind in ("jpg", "flac")}


def test_a_tar_of_webdatasets_own_writer_is_a_corpus(tmp_path, media):
    path = tmp_path / "tars" / "x-000.tar"
    path.parent.mkdir()
    with TarWriter(str(path)) as writer:
        for number in range(3):
            card = {"id": f"id {number}", "labels": {"n": str(number)}} if number else {"w": 640}
            writer.write({"__key__": f"a/{number:04d}", "txt": f"t{number}", "json": card, **media})
    first, second, third = contents(path)
    assert (first.id, second.id) == ("a/0000", "id 1")
    assert (first.metadata, third.labels) == ({"w": 640}, {"n": "2"})
    checked = check_record(second, str(path.parent), CleanConfig())
    assert checked.members == {"txt": b"t1", **media}
    assert collect_members(second, str(path.parent), CleanConfig()) == checked.members


def test_the_layout_of_img2dataset_is_read_with_its_caption_and_facts(tmp_path, media):
    # img2dataset's webdataset output, https://github.com/rom1504/img2dataset#file-format:
    # 00000.tar holds 000000000.jpg, 000000000.txt, 000000000.json for each sample.
    card = {"caption": "a cat", "url": "https://x/y", "key": "000000000", "status": "success"}
    members = [
        ("000000000.jpg", media["jpg"]),
        ("000000000.json", json.dumps(card).encode()),
        ("000000000.txt", b"a cat"),
    ]
    (record,) = contents(write_tar(tmp_path / "00000.tar", members))
    assert (record.id, record.text, record.metadata) == ("000000000", "a cat", card)
    (record,) = contents(write_tar(tmp_path / "00000.tar", members[:2]), {"text": "caption"})
    assert record.text == "a cat"


def test_a_folder_or_pattern_of_tars_is_read_in_the_order_of_names(tmp_path):
    for number in (1, 0, 2):
        name = f"{number}.txt"
        write_tar(tmp_path / f"x-{number:03d}.tar", [(name, name.encode())])
    rows = list(open_source(str(tmp_path), SourceConfig()).rows())
    assert [(row.number, row.content.id) for row in rows] == [(1, "0"), (2, "1"), (3, "2")]
    assert [record.id for record in contents(tmp_path / "x-{001..002}.tar")] == ["1", "2"]
    source = open_source(str(tmp_path), SourceConfig())
    assert [entry["file"] for entry in source.fingerprint()] == [
        "x-000.tar",
        "x-001.tar",
        "x-002.tar",
    ]


def test_tars_of_two_folders_have_one_root(tmp_path):
    for folder in ("a", "b"):
        write_tar(tmp_path / folder / "x.tar", [("k.jpg", b"J")])
    source = open_source(str(tmp_path / "{a,b}" / "x.tar"), SourceConfig())
    assert source.root == str(tmp_path)
    assert [row.content.image.path for row in source.rows()] == ["a/x.tar", "b/x.tar"]


def test_faults_11_and_14_a_key_that_comes_twice_keeps_its_first_sample(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("k.txt", b"a"), ("k.txt", b"b"), ("l.txt", b"l")])
    first, second, third = contents(path)
    assert (first.text, third.text) == ("a", "l")
    assert second.reason == "duplicate-key"
    path = write_tar(tmp_path / "y.tar", [("K1.txt", b"a"), ("K1.TXT", b"b")])
    first, second = contents(path)
    assert (first.text, second.reason) == ("a", "duplicate-key")
    assert "'K1.TXT'" in second.detail
    assert "'K1.txt'" in second.detail


def test_fault_12_a_sample_in_two_places_never_becomes_two_partial_ones(tmp_path):
    members = [("k.txt", b"a"), ("l.txt", b"l"), ("k.jpg", b"J")]
    path = write_tar(tmp_path / "x.tar", members)
    assert reasons(path) == ["split-sample", "", "split-sample"]


def test_fault_13_dotted_names_are_not_merged_into_one_sample(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("k.0.txt", b"a"), ("k.1.txt", b"b"), ("l.txt", b"l")])
    assert reasons(path) == ["empty-sample", ""]


def test_fault_15_member_names_and_links_are_never_paths(tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("../secret.txt", f"{tmp_path}/abs.txt", "../../etc/passwd.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"in"))
        for kind, name in ((tarfile.SYMTYPE, "l.jpg"), (tarfile.LNKTYPE, "h.jpg")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
        device = tarfile.TarInfo("d.jpg")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    found = contents(path)
    assert [record.text for record in found] == ["in", "in", None]
    assert found[2].image == Medium(path="x.tar", start=found[2].image.start, length=2)
    assert read_medium(str(tmp_path), found[2].image, 100, RetryConfig(attempts=1)) == b"in"


def test_fault_16_pickles_and_arrays_of_a_tar_are_never_touched(tmp_path):
    members = [(f"k.{suffix}", b"payload") for suffix in ("pkl", "pyd", "pth", "npy", "txt")]
    (record,) = contents(write_tar(tmp_path / "x.tar", members))
    assert record == Record(id="k", text="payload")
    assert reasons(write_tar(tmp_path / "y.tar", members[:4])) == ["empty-sample"]


def test_fault_17_a_pipe_in_a_list_of_tars_is_refused(tmp_path):
    with pytest.raises(ValueError, match="never run"):
        contents(f"pipe:touch {tmp_path}/ran; cat x-{{0..1}}.tar")


def test_a_tar_that_is_cut_off_keeps_its_whole_samples_and_is_named(tmp_path):
    members = [(f"{number}.txt", b"x" * 600) for number in range(10)]
    path = tmp_path / "x.tar"
    write_tar(path, members)
    path.write_bytes(path.read_bytes()[: 5 * 1536 + 700])
    write_tar(tmp_path / "y.tar", members[:1])
    *whole, broken, after = contents(tmp_path)
    assert [record.id for record in whole] == ["0", "1", "2", "3", "4"]
    assert broken.reason == "broken-tar"
    assert "x.tar" in broken.detail
    assert after.id == "0"
    path.write_bytes(b"")
    assert reasons(path) == ["broken-tar"]


def test_fault_9_a_text_of_a_tar_that_is_not_utf8_costs_one_row(tmp_path):
    path = write_tar(
        tmp_path / "x.tar", [("a.txt", b"\xff\xfe"), ("b.json", b"{"), ("c.txt", b"c")]
    )
    assert reasons(path) == ["invalid-utf8", "bad-row", ""]


def test_a_tar_that_is_a_link_to_another_folder_is_refused_by_name(tmp_path):
    write_tar(tmp_path / "real" / "x.tar", [("k.jpg", b"J")])
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "x.tar").symlink_to(tmp_path / "real" / "x.tar")
    with pytest.raises(ValueError, match=r"'x.tar' leads out .* name the folder where the tars"):
        contents(tmp_path / "links")


def test_rejections_of_a_tar_name_the_tar(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("k.jpg", b"J"), ("k.png", b"P")])
    (content,) = contents(path)
    assert isinstance(content, Rejection)
    assert content.reason == "two-of-a-kind"
    assert content.detail.startswith("x.tar: ")
