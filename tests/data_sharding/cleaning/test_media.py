import os

import pytest

from data_sharding.cleaning.media import locate_below, read_medium
from data_sharding.retry import RetryConfig
from data_sharding.schema import Medium, Rejection
from tiny_shards import served

QUICK = RetryConfig(attempts=3, first_wait_seconds=0.0)


def reason_for(root, path, max_bytes=1000, **place):
    with pytest.raises(Rejection) as caught:
        read_medium(str(root), Medium(path=path, **place), max_bytes, QUICK)
    return caught.value.reason


def test_a_whole_file_and_a_piece_of_one_are_read(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(100)))
    (tmp_path / "empty").touch()
    assert read_medium(str(tmp_path), Medium(path="a.bin"), 100, QUICK) == bytes(range(100))
    piece = Medium(path="a.bin", start=10, length=5)
    assert read_medium(str(tmp_path), piece, 5, QUICK) == bytes(range(10, 15))
    assert read_medium(str(tmp_path), Medium(path="empty"), 5, QUICK) == b""
    inside = Medium(path=str(tmp_path / "a.bin"))
    assert len(read_medium(str(tmp_path), inside, 100, QUICK)) == 100


def test_a_file_that_is_not_there_is_rejected_at_once(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for path in ("gone", "file/below", "folder.jpg", "x" * 5000, "nul\0.wav", "loop", "pipe"):
        assert reason_for(tmp_path, path) == "missing-file", path


def test_fault_15_no_name_leads_out_of_the_corpus(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "corpus-2").mkdir()
    (tmp_path / "corpus-2" / "x").write_bytes(b"secret")
    (corpus / "link").symlink_to(tmp_path / "secret")
    (corpus / "up").symlink_to(tmp_path)
    outside = (
        "../secret",
        f"{tmp_path}/secret",
        "link",
        "up/secret",
        "../corpus-2/x",
        "/etc/passwd",
    )
    for path in outside:
        assert reason_for(corpus, path) == "outside-corpus", path


@pytest.mark.parametrize("root", ["s3://bucket/set", "https://host/set/"])
def test_fault_15_no_name_leads_out_of_a_remote_corpus(root):
    plain = root.rstrip("/")
    assert locate_below(root, "a/../b.jpg") == f"{plain}/b.jpg"
    assert locate_below(root, f"{plain}/b.jpg") == f"{plain}/b.jpg"
    outside = (
        "../x", "a/../../x", "/x", "%2e%2e/x", "%2E%2E%2Fx", "..", "", "http/../../x", "/%2e%2e/x",
    )  # fmt: skip
    for name in outside:
        with pytest.raises(Rejection) as caught:
            locate_below(root, name)
        assert caught.value.reason == "outside-corpus", name


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "big.wav").open("wb") as file:
        file.truncate(10**12)  # a hole: nothing on the disk
    assert reason_for(tmp_path, "big.wav") == "file-too-large"
    assert reason_for(tmp_path, "big.wav", start=0, length=2000) == "file-too-large"


def test_a_piece_that_is_no_longer_there_is_rejected(tmp_path):
    (tmp_path / "x.tar").write_bytes(bytes(100))
    assert reason_for(tmp_path, "x.tar", start=90, length=20) == "unreadable"
    assert reason_for(tmp_path, "x.tar", start=500, length=20) == "unreadable"


def test_fault_4_a_server_that_fails_is_asked_again_and_then_the_job_fails(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"content")
    with served(tmp_path) as server:
        server.failures = 2
        assert read_medium(server.url, Medium(path="a.bin"), 100, QUICK) == b"content"
        assert reason_for(server.url, "gone.bin") == "missing-file"
        server.failures = 1000
        with pytest.raises(OSError, match=r"a\.bin"):
            read_medium(server.url, Medium(path="a.bin"), 100, QUICK)
