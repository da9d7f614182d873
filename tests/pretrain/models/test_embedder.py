"""Ordinary inputs give what the training side gives for the same samples."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from data_sharding.batch import collate
from data_sharding.schema import RawSample
from pretrain.models import Embedder
from pretrain.models.embedder import refuse_one_sample
from pretrain.models.fusion import FUSIONS
from pretrain.models.ordinary_inputs import InputError

RATE_HZ = 22_050


def picture(seed=0, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def sound(seed=0, seconds=0.7):
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)


def as_png(image):
    file = BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def as_wav(samples):
    file = BytesIO()
    soundfile.write(file, samples, RATE_HZ, format="WAV", subtype="FLOAT")
    return file.getvalue()


ROWS = [
    {"txt": b"a small frog", "png": as_png(picture(1)), "wav": as_wav(sound(1))},
    {"txt": b"rain", "wav": as_wav(sound(2))},
    {"png": as_png(picture(3))},
]


@pytest.fixture(scope="module", params=sorted(FUSIONS))
def backbone(request, build):
    made = build("bert", "vit", "audio_cnn")
    config = replace(made.config, fusion=replace(made.config.fusion, fusion=request.param))
    torch.manual_seed(0)
    return type(made)(config, made.stats, made.tokenizer_file).eval()


def as_training_decodes(backbone, rows):
    decoder, preprocess = backbone.decoder(), backbone.preprocess()
    raw = [
        RawSample(shard="made-up", key=str(place), sample_id=place, members=members)
        for place, members in enumerate(rows)
    ]
    samples = [decoder.decode(sample) for sample in raw]
    return collate(samples, [preprocess(sample) for sample in samples])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_embeddings_of_ordinary_inputs_are_the_training_sides(backbone, batch_size):
    expected = backbone.encode(as_training_decodes(backbone, ROWS))
    found = Embedder(backbone, batch_size=batch_size).encode(
        text=["a small frog", "rain", None],
        image=[picture(1), None, as_png(picture(3))],
        audio=[as_wav(sound(1)), (sound(2), RATE_HZ), None],
    )
    assert found.present.tolist() == [[True, True, True], [True, False, True], [False, True, False]]
    torch.testing.assert_close(found.fused, expected.fused, rtol=1e-4, atol=1e-5)
    for column, name in enumerate(("text", "image", "audio")):
        there = found.present[:, column]
        wanted, got = getattr(expected, name), getattr(found, name)
        torch.testing.assert_close(got[there], wanted[there], rtol=1e-4, atol=1e-5)
        assert (got[~there] == 0).all()


def test_one_modality_alone_is_the_same_as_among_others(backbone, tmp_path):
    embedder = Embedder(backbone)
    whole = embedder.encode(text=["rain"], image=[picture(1)], audio=[(sound(2), RATE_HZ)])
    picture(1).save(tmp_path / "picture.png")
    (tmp_path / "sound.wav").write_bytes(as_wav(sound(2)))
    alone = {
        "text": embedder.encode_text(["rain"]),
        "image": embedder.encode_image([tmp_path / "picture.png"]),
        "audio": embedder.encode_audio([str(tmp_path / "sound.wav")]),
    }
    for name, found in alone.items():
        torch.testing.assert_close(found, getattr(whole, name), rtol=1e-4, atol=1e-5)


def test_encoders_of_missing_modalities_are_not_run(build):
    backbone = build("bert", "vit", "audio_cnn")

    def refuse(*inputs):
        raise AssertionError("this encoder was not asked for")

    for name in ("image", "audio"):
        backbone.encoders[name].register_forward_pre_hook(refuse)
    assert Embedder(backbone).encode_text(["a frog", "a dog"]).shape == (2, 16)


def test_grey_and_transparent_pictures_and_stereo_are_taken(build):
    embedder = Embedder(build("bert", "vit", "audio_cnn"))
    grey = picture(1, "L")
    pairs = embedder.encode_image([grey, grey.convert("RGB"), picture(1, "RGBA"), picture(1)])
    torch.testing.assert_close(pairs[0], pairs[1])
    torch.testing.assert_close(pairs[2], pairs[3])
    stereo = np.stack([sound(1), sound(1)])
    both = embedder.encode_audio([(stereo, RATE_HZ), (torch.from_numpy(sound(1)), RATE_HZ)])
    torch.testing.assert_close(both[0], both[1])


def test_a_picture_under_another_name_is_known_by_its_bytes(build, tmp_path):
    embedder = Embedder(build("bert", "vit", "audio_cnn"))
    (tmp_path / "really-a.png.jpg").write_bytes(as_png(picture(1)))
    found = embedder.encode_image([tmp_path / "really-a.png.jpg", picture(1)])
    torch.testing.assert_close(found[0], found[1])


def test_inputs_that_cannot_be_read_are_named(build, tmp_path):
    embedder = Embedder(build("bert", "vit", "audio_cnn"))
    (tmp_path / "notes.jpg").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(as_png(picture(1))[:100])
    for bad in (tmp_path / "notes.jpg", tmp_path / "cut.png", tmp_path / "absent.png"):
        with pytest.raises(InputError, match=bad.name):
            embedder.encode_image([bad])
    with pytest.raises(InputError, match=r"notes\.jpg: broken audio"):
        embedder.encode_audio([tmp_path / "notes.jpg"])
    with pytest.raises(InputError, match="NaN"):
        embedder.encode_audio([(np.array([0.0, np.nan], dtype=np.float32), RATE_HZ)])
    with pytest.raises(InputError, match="floats"):
        embedder.encode_audio([(np.zeros(9, dtype=np.int16), RATE_HZ)])
    with pytest.raises(InputError, match=r"\[time\] or \[channel, time\]"):
        embedder.encode_audio([(np.zeros((900, 2), dtype=np.float32), RATE_HZ)])


@pytest.mark.parametrize(
    "one",
    ["frog", b"frog", Path("frog.png"), picture(1), (np.zeros(9, dtype=np.float32), RATE_HZ)],
    ids=lambda one: type(one).__name__,
)
def test_one_sample_is_no_list_of_samples(build, one):
    with pytest.raises(ValueError, match="is one sample; give a list of them"):
        refuse_one_sample("image", one)
    if isinstance(one, str):  # of the others, the tests' own checks of types would be told
        embedder = Embedder(build("bert", "vit", "audio_cnn"))
        for name in ("text", "image", "audio"):
            with pytest.raises(ValueError, match=f"{name}: one str is one sample; give a list"):
                embedder.encode(**{name: one})


def test_samples_without_anything_and_uneven_columns_are_refused(build):
    embedder = Embedder(build("bert", "vit", "audio_cnn"))
    with pytest.raises(ValueError, match="2 of text, 1 of image"):
        embedder.encode(text=["a", "b"], image=[picture()])
    with pytest.raises(ValueError, match="got none"):
        embedder.encode()
    with pytest.raises(ValueError, match="a sample needs a text"):
        embedder.encode(text=["a", None])
