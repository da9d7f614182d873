import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import data_sharding
from data_sharding.sample_corpus import rebuild, stamps
from data_sharding.sample_corpus.ogg import with_fixed_serial

CORPUS = Path(data_sharding.__file__).parent / "sample_corpus"


@pytest.fixture(scope="module")
def rows():
    lines = (CORPUS / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_corpus_fits_into_six_megabytes():
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000


def test_licence_and_notice_are_beside_the_corpus():
    assert "GNU GENERAL PUBLIC LICENSE" in (CORPUS / "COPYING").read_text()
    assert "tuxpaint-stamps-default" in (CORPUS / "NOTICE").read_text()


def test_there_are_enough_triples_topics_and_languages(rows):
    assert len(rows) >= 400
    assert len({row["id"] for row in rows}) == len(rows)
    topics = Counter(row["labels"]["topic"] for row in rows)
    languages = Counter(row["metadata"]["language"] for row in rows)
    assert len(topics) >= 8
    assert min(topics.values()) >= 20
    assert len(languages) >= 4
    assert min(languages.values()) >= 50


def test_no_group_is_on_both_sides_of_the_split(rows):
    splits = defaultdict(set)
    for row in rows:
        splits[row["metadata"]["group"]].add(row["split"])
    assert all(len(sides) == 1 for sides in splits.values())
    probe = sum(sides == {"probe"} for sides in splits.values())
    assert 0.35 <= probe / len(splits) <= 0.45


def test_every_topic_is_on_both_sides_of_the_split(rows):
    pairs = Counter((row["labels"]["topic"], row["split"]) for row in rows)
    topics = {row["labels"]["topic"] for row in rows}
    assert all(pairs[topic, split] >= 10 for topic in topics for split in ("train", "probe"))


def test_no_text_of_the_probe_is_in_the_pretraining_split(rows):
    texts = defaultdict(set)
    for row in rows:
        texts[row["split"]].update((row["text"], row["metadata"]["text_en"]))
    assert not texts["train"] & texts["probe"]


def test_every_picture_decodes_and_is_distinct(rows):
    seen = set()
    for row in rows:
        with Image.open(CORPUS / row["image"]) as picture:
            assert picture.mode == "RGB"
            assert max(picture.size) == 112
            seen.add(picture.tobytes())
    assert len(seen) == len(rows)


def test_every_recording_decodes_and_is_heard(rows):
    for row in rows:
        waveform, rate = soundfile.read(CORPUS / row["audio"], dtype="float32")
        assert rate == 16_000
        assert waveform.ndim == 1
        assert 0.2 <= len(waveform) / rate <= 4.0
        assert np.abs(waveform).max() > 1e-3


def test_no_media_file_is_without_its_row(rows):
    named = {row[kind] for row in rows for kind in ("image", "audio")}
    found = {
        f"{kind}/{path.name}" for kind in ("images", "audio") for path in CORPUS.glob(f"{kind}/*")
    }
    assert named == found


def test_a_recording_keeps_its_sound_under_another_serial_number(tmp_path):
    tone = np.sin(np.arange(16_000) / 9.0).astype("float32")
    soundfile.write(tmp_path / "drawn.ogg", tone, 16_000, format="OGG", subtype="OPUS")
    fixed = with_fixed_serial((tmp_path / "drawn.ogg").read_bytes())
    (tmp_path / "fixed.ogg").write_bytes(fixed)
    drawn, _ = soundfile.read(tmp_path / "drawn.ogg")
    same, _ = soundfile.read(tmp_path / "fixed.ogg")
    np.testing.assert_array_equal(drawn, same)
    assert with_fixed_serial(fixed) == fixed


def test_variants_of_one_thing_share_a_name():
    names = ["frog-1", "frog", "Frog_2", "frog_cartoon", "frog_outline"]
    assert {stamps.variant_name(Path(f"animals/{name}.png")) for name in names} == {"frog"}
    assert stamps.variant_name(Path("symbols/7.png")) == "7"


@pytest.mark.skipif(not rebuild.STAMPS.is_dir(), reason="no tuxpaint-stamps; .ci/run installs it")
def test_the_debian_package_gives_the_bundled_corpus_again(rows, tmp_path):
    planned = rebuild.plan(rebuild.STAMPS)
    assert [row.manifest() for row in planned] == rows
    rebuild.write(planned[::60], tmp_path)
    for row in rows[::60]:
        ours, bundled = tmp_path / row["image"], CORPUS / row["image"]
        np.testing.assert_array_equal(Image.open(ours), Image.open(bundled))
        rebuilt, _ = soundfile.read(tmp_path / row["audio"])
        original, _ = soundfile.read(CORPUS / row["audio"])
        np.testing.assert_allclose(rebuilt, original, atol=0.02)


def test_a_folder_without_stamps_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    command = ["rebuild.py", str(tmp_path / "out"), "--stamps", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    assert rebuild.main() == 2
    assert "apt-get install tuxpaint-stamps-default" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
