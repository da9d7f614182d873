import io
import pickle

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_sharding.decode import (
    DecodeConfig,
    Decoder,
    decode_audio,
    decode_image,
    decode_with_pillow,
)
from data_sharding.schema import DecodeError, RawSample


def encoded(picture, kind, **options):
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def noise():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_pillow_and_torchvision_decode_a_jpeg_to_the_same_pixels(noise):
    rotated = Image.Exif()
    rotated[0x112] = 6
    for options in ({}, {"progressive": True}, {"exif": rotated}):
        jpeg = encoded(noise, "JPEG", **options)
        assert torch.equal(decode_image(jpeg, "jpg"), decode_with_pillow(jpeg, "jpg"))


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_a_picture_is_turned_as_exif_says(noise, kind, suffix):
    rotated = Image.Exif()
    rotated[0x112] = 6
    assert decode_image(encoded(noise, kind, exif=rotated), suffix).shape == (3, 30, 20)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_every_kind_of_png_becomes_rgb(noise, mode):
    image = decode_image(encoded(noise.convert(mode), "PNG"), "png")
    expected = np.asarray(noise.convert(mode).convert("RGB"))
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_every_kind_of_jpeg_becomes_rgb(noise):
    for mode in ("L", "CMYK", "RGB"):
        assert decode_image(encoded(noise.convert(mode), "JPEG"), "jpg").shape == (3, 20, 30)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    grey = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    image = decode_image(encoded(Image.fromarray(grey), "PNG"), "png")
    assert image[0, 0].tolist() == [0, 1, 128, 255]


def test_transparency_lies_over_white():
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert (decode_image(encoded(clear, "PNG"), "png") == 255).all()
    assert (decode_image(encoded(clear, "WEBP", lossless=True), "webp") == 255).all()


def test_broken_pictures_are_decode_errors(noise):
    for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        whole = encoded(noise, kind)
        for broken in (b"", b"<html>", whole[:40], whole[: len(whole) // 2]):
            with pytest.raises(DecodeError, match="broken"):
                decode_image(broken, suffix)


def test_audio_becomes_mono_at_the_wanted_rate():
    time = np.arange(44_100) / 44_100
    stereo = np.stack([np.sin(2 * np.pi * 440 * time), np.zeros(44_100)], axis=1)
    for kind in ("FLAC", "WAV", "OGG", "MP3"):
        out = io.BytesIO()
        soundfile.write(out, stereo, 44_100, format=kind)
        waveform = decode_audio(out.getvalue(), DecodeConfig(sample_rate_hz=16_000))
        assert abs(len(waveform) - 16_000) < 1_500  # MP3 pads
        spectrum = torch.fft.rfft(waveform[:16_000], n=16_000).abs()
        assert int(spectrum.argmax()) == 440


def test_only_the_start_of_a_long_recording_is_read():
    out = io.BytesIO()
    soundfile.write(out, np.ones(80_000, dtype=np.float32), 8_000, format="WAV")
    config = DecodeConfig(sample_rate_hz=8_000, max_seconds=2.0)
    assert len(decode_audio(out.getvalue(), config)) == 16_000


def test_broken_audio_is_a_decode_error():
    out = io.BytesIO()
    soundfile.write(out, np.array([0.0, np.nan]), 8_000, format="WAV", subtype="FLOAT")
    for broken in (b"", b"RIFF", out.getvalue()):
        with pytest.raises(DecodeError, match="audio"):
            decode_audio(broken, DecodeConfig())


def test_only_the_allow_list_is_decoded(shards):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    decoder = Decoder(shards / "stats" / "tokenizer.json")
    payload = pickle.dumps(Bomb())
    members = {"txt": b"red", "pkl": payload, "pyd": payload, "pth": payload, "npy": payload}
    sample = decoder.decode(RawSample(shard="s", key="k", sample_id=0, members=members))
    assert sample.text == "red"
    assert sample.present == (True, False, False)


def test_a_broken_member_is_named(shards):
    decoder = Decoder(shards / "stats" / "tokenizer.json")
    for suffix, content in (("txt", b"\xff"), ("json", b"{"), ("png", b"x"), ("wav", b"x")):
        raw = RawSample(shard="s", key="000000-000003", sample_id=3, members={suffix: content})
        with pytest.raises(DecodeError, match=rf"000000-000003.{suffix}: "):
            decoder.decode(raw)


def test_a_missing_tokenizer_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match="triptych stats"):
        Decoder(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("card", [b"[" * 100_000, b"[1]", b'"x"', b"{"])
def test_a_card_that_is_no_object_is_a_decode_error(shards, card):
    decoder = Decoder(shards / "stats" / "tokenizer.json")
    raw = RawSample(shard="s", key="k", sample_id=0, members={"json": card})
    with pytest.raises(DecodeError, match=r"k\.json"):
        decoder.decode(raw)
