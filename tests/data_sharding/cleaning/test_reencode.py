import multiprocessing
from io import BytesIO

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_sharding.cleaning.check_audio import check_audio
from data_sharding.cleaning.clean import CleanConfig
from data_sharding.cleaning.reencode import EncodeConfig, final_members
from data_sharding.schema import Record
from tiny_corpus import write_image, write_tone

RECORD = Record(id="x", labels={"a": "b"})
SMALLER = EncodeConfig(image_short_side=32, audio="flac16k")


@pytest.fixture
def members(tmp_path):
    write_image(tmp_path / "a.png", 1, (120, 64))
    write_tone(tmp_path / "a.ogg", 1, seconds=1.0, rate=44_100)
    return {
        "txt": b"text",
        "png": (tmp_path / "a.png").read_bytes(),
        "ogg": (tmp_path / "a.ogg").read_bytes(),
    }


def picture_of(encoded):
    return Image.open(BytesIO(encoded))


def image_bytes(picture, kind, **options):
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def smaller(suffix, encoded, short_side=32):
    config = EncodeConfig(image_short_side=short_side)
    final = final_members(RECORD, {suffix: encoded}, config)
    assert list(final) == ["jpg", "json"]
    return final["jpg"]


def digests(members, config, threads):
    torch.set_num_threads(threads)
    return final_members(RECORD, members, config)


def test_without_options_media_stay_byte_for_byte_and_the_card_is_added(members):
    final = final_members(RECORD, members, EncodeConfig())
    assert final == {**members, "json": RECORD.card()}
    assert list(final) == ["txt", "png", "ogg", "json"]


def test_pictures_become_small_jpegs_and_recordings_mono_flac(members):
    final = final_members(RECORD, members, SMALLER)
    assert list(final) == ["txt", "jpg", "flac", "json"]
    picture = picture_of(final["jpg"])
    assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (60, 32))
    waveform, rate = soundfile.read(BytesIO(final["flac"]))
    assert (rate, waveform.shape) == (16_000, (16_000,))
    assert soundfile.info(BytesIO(final["flac"])).subtype == "PCM_16"
    original, _ = soundfile.read(BytesIO(members["ogg"]))
    assert np.std(waveform) == pytest.approx(np.std(original), rel=0.01)
    check_audio(final["flac"], "flac", CleanConfig())


def test_no_picture_is_enlarged_and_a_small_jpeg_is_left_alone():
    small = Image.new("RGB", (20, 10), "red")
    jpeg = image_bytes(small, "JPEG")
    assert smaller("jpg", jpeg) == jpeg
    assert picture_of(smaller("png", image_bytes(small, "PNG"))).size == (20, 10)
    assert picture_of(smaller("png", image_bytes(Image.new("L", (1, 900)), "PNG"))).size == (1, 900)


def test_a_rotated_picture_comes_out_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (80, 40))
    picture.paste("white", (0, 0, 40, 40))
    final = picture_of(smaller("jpg", image_bytes(picture, "JPEG", exif=exif), short_side=20))
    assert final.size == (20, 40)
    assert 0x0112 not in final.getexif()
    assert np.asarray(final)[:15].mean() > 200 > 50 > np.asarray(final)[-15:].mean()


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "I;16", "LA", "1"])
def test_every_kind_of_pixel_becomes_rgb(mode):
    kind, suffix = ("JPEG", "jpg") if mode == "CMYK" else ("PNG", "png")
    final = picture_of(smaller(suffix, image_bytes(Image.new(mode, (64, 64)), kind)))
    assert (final.mode, final.size) == ("RGB", (32, 32))


def test_a_recording_that_is_already_right_is_left_alone(tmp_path):
    write_tone(tmp_path / "a.flac", 1)
    flac = (tmp_path / "a.flac").read_bytes()
    assert final_members(RECORD, {"flac": flac}, SMALLER)["flac"] == flac


def test_many_channels_and_loud_samples_become_mono_without_wrapping():
    loud = np.tile(np.where(np.arange(32_000) % 400 < 200, 1.5, -1.5)[:, None], (1, 8))
    out = BytesIO()
    soundfile.write(out, loud, 32_000, format="WAV", subtype="FLOAT")
    final = final_members(RECORD, {"wav": out.getvalue()}, SMALLER)["flac"]
    waveform, _ = soundfile.read(BytesIO(final))
    assert waveform.ndim == 1
    assert waveform[55:90].min() > 0.9
    assert waveform[155:190].max() < -0.9


def test_the_bytes_are_the_same_each_time_and_in_each_process(members):
    here = [final_members(RECORD, members, SMALLER) for _ in range(2)]
    context = multiprocessing.get_context("forkserver")
    with context.Pool(2) as pool:
        there = [pool.apply(digests, (members, SMALLER, threads)) for threads in (1, 2, 4)]
        pool.close()
        pool.join()
    assert all(final == here[0] for final in (*here, *there))


def test_senseless_options_are_refused():
    with pytest.raises(ValueError, match="image_short_side must be at least 1"):
        EncodeConfig(image_short_side=0)
    with pytest.raises(ValueError, match=r"jpeg_quality must be in \[1, 100\]"):
        EncodeConfig(jpeg_quality=101)
