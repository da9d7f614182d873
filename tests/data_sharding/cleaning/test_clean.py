"""Corpus rows that must be rejected; above 300 lines, for each fault makes its own broken file."""

import contextlib
import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_sharding.cleaning.check_text import clean_text
from data_sharding.cleaning.clean import (
    Checked,
    CleanConfig,
    check_record,
    collect_members,
    raw_crc32,
)
from data_sharding.schema import Medium, Record, Rejection
from tiny_corpus import write_image, write_tone


def record_of(**fields: str) -> Record:
    media = {name: Medium(path=fields.pop(name)) for name in ("image", "audio") if name in fields}
    return Record(id="x", **media, **fields)


def check(folder: Path, config: CleanConfig | None = None, **fields: str) -> Checked:
    """Checks a record, and that reading it again without checks gives the same members."""
    record, config = record_of(**fields), config or CleanConfig()
    checked = check_record(record, str(folder), config)
    assert collect_members(record, str(folder), config) == checked.members
    return checked


def reason_for(folder: Path, config: CleanConfig | None = None, **fields: str) -> str:
    with pytest.raises(Rejection) as caught:
        check_record(record_of(**fields), str(folder), config or CleanConfig())
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


def jpeg(picture: Image.Image, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", **options)
    return out.getvalue()


def picture_in(folder: Path, content: bytes, config: CleanConfig | None = None) -> list[int]:
    """Height and width of a picture that passes."""
    (folder / "p.img").write_bytes(content)
    image = check(folder, config, image="p.img").image
    assert image is not None
    return list(image.shape[1:])


def picture_reason(folder: Path, content: bytes, config: CleanConfig | None = None) -> str:
    (folder / "p.jpg").write_bytes(content)
    return reason_for(folder, config, image="p.jpg")


def audio_reason(folder: Path, content: bytes, config: CleanConfig | None = None) -> str:
    (folder / "a.wav").write_bytes(content)
    return reason_for(folder, config, audio="a.wav")


# Text


def test_fault_9_texts_that_no_model_should_see_are_rejected(tmp_path):
    assert reason_for(tmp_path, text="a\0b") == "control-characters"
    assert reason_for(tmp_path, text="bell \a") == "control-characters"
    assert reason_for(tmp_path, text="\x85 next line of another age") == "control-characters"
    assert reason_for(tmp_path, text="half \ud800") == "invalid-utf8"
    assert reason_for(tmp_path, text="x" * 10_000_000) == "text-too-long"
    assert reason_for(tmp_path, text=" \n\t \u3000") == "empty-sample"
    assert reason_for(tmp_path, text="") == "empty-sample"
    assert reason_for(tmp_path, CleanConfig(max_text_bytes=5), text="花花") == "text-too-long"
    assert reason_for(tmp_path, CleanConfig(max_text_characters=1), text="花花") == "text-too-long"
    assert (
        reason_for(tmp_path, CleanConfig(min_text_characters=3), text=" 花花 ") == "text-too-short"
    )


def test_control_characters_can_be_removed_instead(tmp_path):
    config = CleanConfig(control_characters="remove")
    assert check(tmp_path, config, text="\0a\tb\r\nc\x7f").text == "a\tb\r\nc"


def test_fault_9_right_to_left_texts_and_emoji_are_kept_to_the_last_mark(tmp_path):
    hebrew, arabic = "\u05e9\u05dc\u05d5\u05dd \u200f\u05d0", "\u0645\u0631\u062d\u200c\u0628\u0627"
    family = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
    for text in (hebrew, arabic, family, "हिन्दी", "花が咲く"):
        checked = check(tmp_path, text=text)
        assert checked.text == text
        assert checked.members == {"txt": text.encode()}


def test_texts_have_one_unicode_form(tmp_path):
    decomposed = "cafe\u0301 ﬁ"
    assert check(tmp_path, text=decomposed).text == "café ﬁ"
    assert check(tmp_path, CleanConfig(text_form="NFKC"), text=decomposed).text == "café fi"
    assert check(tmp_path, CleanConfig(text_form="none"), text=decomposed).text == decomposed


@given(st.text(), st.sampled_from(["NFC", "NFKC", "none"]))
def test_cleaning_a_clean_text_changes_nothing(text, form):
    config = CleanConfig(text_form=form, control_characters="remove")
    text = text.encode("utf-8", "replace").decode("utf-8")
    once = clean_text(text, config)
    assert clean_text(once, config) == once


# Pictures


def test_fault_5_broken_pictures_are_rejected_and_end_no_process(tmp_path):
    assert picture_reason(tmp_path, b"") == "not-an-image"
    for kind in ("jpg", "png", "webp"):
        write_image(tmp_path / f"whole.{kind}", 0, (60, 60))
        whole = (tmp_path / f"whole.{kind}").read_bytes()
        reason = picture_reason(tmp_path, whole[: len(whole) // 2])
        assert reason in ("broken-image", "not-an-image")
    flipped = bytearray((tmp_path / "whole.png").read_bytes())
    flipped[len(flipped) // 2] ^= 255
    assert picture_reason(tmp_path, bytes(flipped)) == "broken-image"


def test_fault_6_what_is_no_picture_is_rejected_whatever_its_name(tmp_path):
    for content in (b"<html>not found</html>", b"GIF89a" + bytes(100), b"\xff\xd8\xff" + bytes(9)):
        assert picture_reason(tmp_path, content) == "not-an-image"


def test_fault_6_a_picture_is_called_what_it_is_not_what_its_name_says(tmp_path):
    write_image(tmp_path / "really.png", 0)
    (tmp_path / "really.png").rename(tmp_path / "picture.jpg")
    assert list(check(tmp_path, image="picture.jpg").members) == ["png"]


@pytest.mark.parametrize("mode", ["CMYK", "L", "RGB"])
def test_fault_6_every_kind_of_jpeg_becomes_rgb(tmp_path, mode):
    assert picture_in(tmp_path, jpeg(Image.new(mode, (20, 10)))) == [10, 20]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGBA"])
def test_fault_6_palettes_16_bits_and_transparency_become_rgb(tmp_path, mode):
    out = io.BytesIO()
    Image.new(mode, (20, 10)).save(out, "PNG")
    assert picture_in(tmp_path, out.getvalue()) == [10, 20]


def test_fault_6_a_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert picture_in(tmp_path, jpeg(Image.new("RGB", (20, 10)), exif=exif)) == [20, 10]


def test_fault_6_one_pixel_is_a_picture_unless_a_limit_says_otherwise(tmp_path):
    dot = jpeg(Image.new("RGB", (1, 1)))
    assert picture_in(tmp_path, dot) == [1, 1]
    assert picture_reason(tmp_path, dot, CleanConfig(min_image_side=2)) == "image-too-small"


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_fault_6_animations_are_rejected(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    assert picture_reason(tmp_path, out.getvalue()) == "animated-image"


def test_a_phones_picture_with_a_second_one_behind_it_counts_as_the_first(tmp_path):
    out = io.BytesIO()
    second = Image.new("RGB", (4, 4))
    Image.new("RGB", (20, 10)).save(out, "MPO", save_all=True, append_images=[second])
    assert picture_in(tmp_path, out.getvalue()) == [10, 20]


def test_fault_7_an_image_bomb_is_refused_from_its_header(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert picture_reason(tmp_path, png_claiming(50_000, 50_000)) == "too-many-pixels"
    assert picture_reason(tmp_path, png_claiming(12_000, 12_000)) == "too-many-pixels"
    limit = CleanConfig(max_image_pixels=99)
    assert picture_reason(tmp_path, jpeg(Image.new("RGB", (10, 10))), limit) == "too-many-pixels"
    grown_bytes = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown_bytes < 100_000_000  # 12000 x 12000 alone would be 432 MB


def test_kinds_that_are_not_allowed_are_rejected(tmp_path):
    config = CleanConfig(image_formats=("png",), audio_formats=("flac",))
    assert picture_reason(tmp_path, jpeg(Image.new("RGB", (9, 9))), config) == "image-format"
    assert audio_reason(tmp_path, wav(np.sin(np.arange(8000) / 10)), config) == "audio-format"


# Recordings


def test_fault_8_silence_is_rejected(tmp_path):
    loud = np.sin(np.arange(8000) / 10)
    assert audio_reason(tmp_path, wav(np.zeros(8000))) == "silent-audio"
    assert audio_reason(tmp_path, wav(np.stack([loud, -loud], axis=1))) == "silent-audio"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_fault_8_audio_that_is_not_finite_is_rejected(tmp_path, value):
    samples = np.sin(np.arange(100_000) / 10)
    samples[-5] = value
    assert audio_reason(tmp_path, wav(samples)) == "non-finite-audio"


def test_fault_8_zero_length_and_bare_headers_are_rejected(tmp_path):
    write_tone(tmp_path / "short.wav", 1, seconds=0.05)
    assert reason_for(tmp_path, audio="short.wav") == "audio-too-short"
    assert audio_reason(tmp_path, wav(np.zeros(0))) == "audio-too-short"
    for content in (b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"<html></html>" * 50):
        assert audio_reason(tmp_path, content) == "not-audio"
    soundfile.write(tmp_path / "tone.aiff", np.sin(np.arange(8000) / 10), 16_000)
    assert reason_for(tmp_path, audio="tone.aiff") == "not-audio"


def test_fault_8_ten_hours_are_refused_from_the_header_without_decoding(tmp_path):
    whole = wav(np.sin(np.arange(8000) / 10), rate=8000, subtype="PCM_U8")
    rate = wav(np.zeros(16_000 * 60), rate=16_000, subtype="PCM_16")
    assert audio_reason(tmp_path, rate, CleanConfig(max_audio_seconds=59.0)) == "audio-too-long"
    flac = io.BytesIO()
    soundfile.write(flac, np.ones(16_000) / 2, 16_000, format="FLAC")
    content = bytearray(flac.getvalue())
    claimed = 36_000 * 16_000  # STREAMINFO: total samples are the low 36 bits of bytes 18 to 26
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | claimed
    content[18:26] = field.to_bytes(8, "big")
    assert audio_reason(tmp_path, bytes(content)) == "audio-too-long"
    assert check(tmp_path, CleanConfig(max_audio_seconds=1.0), audio=put(tmp_path, whole)).members


def test_fault_8_a_header_that_lies_about_the_length_is_rejected(tmp_path):
    flac = io.BytesIO()
    soundfile.write(flac, np.sin(np.arange(16_000) / 10), 16_000, format="FLAC")
    content = bytearray(flac.getvalue())
    field = int.from_bytes(content[18:26], "big") + 16_000
    content[18:26] = field.to_bytes(8, "big")
    assert audio_reason(tmp_path, bytes(content)) == "broken-audio"
    write_tone(tmp_path / "whole.flac", 1, seconds=2.0)
    whole = (tmp_path / "whole.flac").read_bytes()
    assert audio_reason(tmp_path, whole[: len(whole) // 2]) == "broken-audio"


def test_fault_8_channels_and_rates_have_limits(tmp_path):
    loud = np.sin(np.arange(8000) / 10)
    eight = wav(np.tile(loud[:, None], (1, 8)))
    assert check(tmp_path, audio=put(tmp_path, eight)).members == {"wav": eight}
    assert audio_reason(tmp_path, eight, CleanConfig(max_audio_channels=2)) == "too-many-channels"
    assert audio_reason(tmp_path, wav(loud, rate=2000)) == "sample-rate"
    assert audio_reason(tmp_path, wav(loud, rate=400_000)) == "sample-rate"
    odd = np.sin(np.arange(44_101) / 10)
    assert audio_reason(tmp_path, wav(odd, rate=44_101)) == "sample-rate"


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "WAVEX", "OGG", "MP3"])
def test_every_allowed_kind_of_recording_passes_as_what_it_is(tmp_path, kind):
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(16_000) / 10), 16_000, format=kind)
    suffix = {"WAVEX": "wav"}.get(kind, kind.lower())
    assert check(tmp_path, audio=put(tmp_path, out.getvalue())).members == {suffix: out.getvalue()}


def put(folder: Path, content: bytes) -> str:
    (folder / "found.bin").write_bytes(content)
    return "found.bin"


# Samples


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "flac", "ogg", "mp3", "wav"])
def test_damaged_media_pass_or_are_rejected_and_nothing_else_happens(tmp_path, kind):
    modality = "image" if kind in ("jpg", "png", "webp") else "audio"
    (write_image if modality == "image" else write_tone)(tmp_path / f"a.{kind}", 1)
    whole = (tmp_path / f"a.{kind}").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), rng.integers(1, 8)):
            damaged[position] = rng.integers(0, 256)
        (tmp_path / "damaged").write_bytes(damaged[: rng.integers(1, 2 * len(whole))])
        with contextlib.suppress(Rejection):
            check(tmp_path, **{modality: "damaged"})


def test_fault_10_a_sample_without_a_required_modality_is_rejected(tmp_path):
    write_image(tmp_path / "a.png", 0)
    config = CleanConfig(require=("text", "audio"))
    assert reason_for(tmp_path, config, text="a", image="a.png") == "missing-modality"
    assert reason_for(tmp_path, config, text=" ", image="a.png") == "missing-modality"
    assert list(check(tmp_path, CleanConfig(require=("image",)), image="a.png").members) == ["png"]
    assert reason_for(tmp_path) == "empty-sample"


def test_a_split_must_be_a_plain_name(tmp_path):
    assert reason_for(tmp_path, text="a", split="../x") == "bad-row"
    assert reason_for(tmp_path, text="a", split="") == "bad-row"


def test_one_number_tells_whether_any_medium_changed():
    members = {"txt": b"ab", "png": b"c"}
    assert raw_crc32({**members, "json": b"card"}) == raw_crc32(members)
    assert raw_crc32(dict(reversed(members.items()))) == raw_crc32(members)
    others = ({"txt": b"a", "png": b"bc"}, {"txt": b"ab", "jpg": b"c"}, {"txt": b"ab"})
    assert raw_crc32(members) not in {raw_crc32(other) for other in others}


@pytest.mark.parametrize(
    "limits",
    [
        {"max_text_bytes": 0},
        {"max_image_pixels": 10**9},
        {"min_text_characters": 9, "max_text_characters": 8},
        {"min_audio_seconds": 2.0, "max_audio_seconds": 1.0},
        {"min_sample_rate_hz": 9000, "max_sample_rate_hz": 8000},
        {"silence_peak": 1.0},
    ],
)
def test_senseless_limits_are_refused(limits):
    with pytest.raises(ValueError, match="clean"):
        CleanConfig(**limits)
