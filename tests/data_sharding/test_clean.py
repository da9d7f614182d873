import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_sharding.clean import CleanConfig, clean_record
from data_sharding.job import REJECTS_FILE, ShardingConfig, shard_corpus
from data_sharding.schema import Record, Rejection
from tiny_corpus import write_corpus, write_image, write_tone


def reason_for(folder: Path, config: CleanConfig | None = None, **fields: str) -> str:
    with pytest.raises(Rejection) as caught:
        clean_record(Record(id="x", **fields), folder, config or CleanConfig())
    return caught.value.reason


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def wav(samples: np.ndarray, rate: int = 16_000, subtype: str = "FLOAT") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype=subtype)
    return out.getvalue()


def test_a_missing_file_is_rejected(tmp_path):
    assert reason_for(tmp_path, image="nowhere.jpg") == "missing-file"
    assert reason_for(tmp_path, audio="nul\0.wav") == "missing-file"
    assert reason_for(tmp_path, image="x" * 5000) == "missing-file"
    (tmp_path / "folder.jpg").mkdir()
    assert reason_for(tmp_path, image="folder.jpg") == "missing-file"


def test_a_path_out_of_the_corpus_folder_is_rejected(tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_image(tmp_path / "secret.png", 0)
    (corpus / "link.png").symlink_to(tmp_path / "secret.png")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "/etc/passwd"):
        assert reason_for(corpus, image=path) == "outside-corpus"


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_a_truncated_picture_is_rejected(tmp_path, kind):
    write_image(tmp_path / f"whole.{kind}", 0, (60, 60))
    whole = (tmp_path / f"whole.{kind}").read_bytes()
    (tmp_path / "cut.img").write_bytes(whole[: len(whole) // 2])
    assert reason_for(tmp_path, image="cut.img") in ("broken-image", "not-an-image")


def test_a_picture_with_a_flipped_byte_is_rejected_and_ends_no_process(tmp_path):
    write_image(tmp_path / "whole.png", 0)
    content = bytearray((tmp_path / "whole.png").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "flipped.png").write_bytes(content)
    assert reason_for(tmp_path, image="flipped.png") == "broken-image"


def test_what_is_no_picture_is_rejected_whatever_its_name(tmp_path):
    for content in (b"", b"<html>not found</html>", b"GIF89a" + bytes(100)):
        (tmp_path / "page.jpg").write_bytes(content)
        assert reason_for(tmp_path, image="page.jpg") == "not-an-image"


def test_an_image_bomb_is_refused_from_its_header(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_claiming(50_000, 50_000))
    (tmp_path / "large.png").write_bytes(png_claiming(12_000, 12_000))
    assert reason_for(tmp_path, image="bomb.png") == "too-many-pixels"
    assert reason_for(tmp_path, image="large.png") == "too-many-pixels"


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "big.wav").touch()
    with (tmp_path / "big.wav").open("r+b") as file:
        file.truncate(10**12)  # a hole: nothing on the disk
    assert reason_for(tmp_path, audio="big.wav") == "file-too-large"


def test_an_animated_webp_is_rejected(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    assert reason_for(tmp_path, image="moving.webp") == "broken-image"


def test_silence_is_rejected(tmp_path):
    loud = np.sin(np.arange(8000) / 10)
    (tmp_path / "zero.wav").write_bytes(wav(np.zeros(8000)))
    (tmp_path / "opposed.wav").write_bytes(wav(np.stack([loud, -loud], axis=1)))
    assert reason_for(tmp_path, audio="zero.wav") == "silent-audio"
    assert reason_for(tmp_path, audio="opposed.wav") == "silent-audio"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_audio_that_is_not_finite_is_rejected(tmp_path, value):
    samples = np.sin(np.arange(100_000) / 10)
    samples[-5] = value
    (tmp_path / "bad.wav").write_bytes(wav(samples))
    assert reason_for(tmp_path, audio="bad.wav") == "non-finite-audio"


def test_recordings_too_short_or_too_long_are_refused_from_their_header(tmp_path):
    write_tone(tmp_path / "short.wav", 1, seconds=0.05)
    (tmp_path / "long.flac").write_bytes(b"")
    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 700, dtype=np.int16), 16_000)
    assert reason_for(tmp_path, audio="short.wav") == "audio-too-short"
    assert reason_for(tmp_path, audio="long.flac") == "audio-too-long"
    (tmp_path / "empty.wav").write_bytes(wav(np.zeros(0)))
    assert reason_for(tmp_path, audio="empty.wav") == "audio-too-short"


def test_what_is_no_recording_is_rejected(tmp_path):
    for content in (b"", b"RIFF", b"<html></html>" * 50):
        (tmp_path / "page.wav").write_bytes(content)
        assert reason_for(tmp_path, audio="page.wav") == "not-audio"
    soundfile.write(tmp_path / "tone.aiff", np.sin(np.arange(8000) / 10), 16_000)
    assert reason_for(tmp_path, audio="tone.aiff") == "not-audio"


def test_a_truncated_recording_is_rejected(tmp_path):
    write_tone(tmp_path / "whole.flac", 1, seconds=2.0)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    assert reason_for(tmp_path, audio="cut.flac") == "broken-audio"


def test_a_sample_rate_that_cannot_be_resampled_is_rejected(tmp_path):
    (tmp_path / "odd.wav").write_bytes(wav(np.sin(np.arange(44_101) / 10), rate=44_101))
    assert reason_for(tmp_path, audio="odd.wav") == "broken-audio"


def test_samples_without_content_and_overlong_texts_are_rejected(tmp_path):
    assert reason_for(tmp_path) == "empty-sample"
    assert reason_for(tmp_path, text=" \n\t ") == "empty-sample"
    assert reason_for(tmp_path, CleanConfig(max_text_bytes=5), text="花花") == "text-too-long"
    assert reason_for(tmp_path, text="a", split="../x") == "bad-row"


def test_a_media_file_is_called_what_it_is_not_what_its_name_says(tmp_path):
    write_image(tmp_path / "really.png", 0)
    (tmp_path / "really.png").rename(tmp_path / "picture.jpg")
    members = clean_record(Record(id="x", image="picture.jpg"), tmp_path, CleanConfig())
    assert list(members) == ["png", "json"]


def test_the_good_rows_go_on_and_the_bad_ones_are_listed(tmp_path):
    corpus = tmp_path / "corpus"
    manifest = write_corpus(corpus, 6)
    (corpus / "1.png").write_bytes(b"no picture")
    with manifest.open("ab") as file:
        file.write(b'{"id": "bytes", "text": "\xff\xfe"}\n')
        file.write(b'{"id": "surrogate", "text": "\\ud800"}\n')
        file.write(b"not json\n")
        file.write(b'{"id": "listed", "text": ["a"]}\n')
        file.write(b'{"id": "nan", "text": "a", "metadata": {"x": NaN}}\n')
    report = shard_corpus(corpus, tmp_path / "out", ShardingConfig())
    lines = (tmp_path / "out" / REJECTS_FILE).read_text().splitlines()
    rejects = [json.loads(line) for line in lines]
    assert report.num_samples == 5
    assert {(reject["row"], reject["id"], reject["reason"]) for reject in rejects} == {
        (2, "sample.1", "not-an-image"),
        (7, None, "invalid-utf8"),
        (8, None, "invalid-utf8"),
        (9, None, "bad-row"),
        (10, None, "bad-row"),
        (11, None, "bad-row"),
    }
    assert report.rejects == {"bad-row": 3, "invalid-utf8": 2, "not-an-image": 1}
    assert "6 rows rejected (bad-row 3, invalid-utf8 2, not-an-image 1)" in report.summary()


def test_a_corpus_of_which_nothing_remains_is_an_error_and_leaves_nothing(tmp_path):
    corpus = tmp_path / "corpus"
    write_corpus(corpus, 2)
    for path in corpus.glob("[01].*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"no row passed, 2 rejected \(missing-file 2\)"):
        shard_corpus(corpus, tmp_path / "out", ShardingConfig())
    assert not (tmp_path / "out").exists()
