"""Rows that share a picture, recording or text through an alternative."""

import json
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

from data_sharding.duplicates import DuplicatesConfig, SignatureFile
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from tiny_corpus import write_image, write_rows, write_tone

LONG = "the quick brown fox jumps over the lazy dog near the river bank today"
TEN_SPLITS = {f"s{n}": 0.1 for n in range(10)}


def smooth_image(path, number):
    """A picture of coarse shapes, as photographs have."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (18, 24, 3), dtype=np.uint8))
    coarse.resize((96, 64), Image.Resampling.BICUBIC).save(path)


def samples(out):
    """Split, id and media of all samples."""
    reader = ShardReader(ShardSet.open(out))
    for number in range(len(reader)):
        members = dict(reader.read(number).members)
        name = json.loads(bytes(members.pop("json")))["id"]
        media = {bytes(part) for suffix, part in members.items() if not suffix.endswith("txt")}
        yield reader.locate(number)[0].split, name, media
    reader.close()


def splits_of_media(out):
    found = defaultdict(set)
    for split, _, media in samples(out):
        for part in media:
            found[part].add(split)
    return found


def splits_of(out, *names):
    return {split for split, name, _ in samples(out) if name in names}


@pytest.mark.parametrize("near", ["off", "cluster", "drop"])
@pytest.mark.parametrize("rows_per_task", [3, 1000])
def test_no_picture_or_recording_lies_in_two_splits(tmp_path, near, rows_per_task):
    rows = []
    for n in range(20):
        write_image(tmp_path / f"{n}.png", n)
        write_tone(tmp_path / f"{n}.wav", n)
        rows.append({"id": str(n), "image": f"{n}.png", "audio": f"{n}.wav", "text": f"note {n}"})
        if n % 2 == 0:
            rows[-1]["image.1" if n % 4 else "audio.2"] = f"{n + 1}.{'png' if n % 4 else 'wav'}"
    write_rows(tmp_path, rows)
    config = ShardingConfig(
        splits=TEN_SPLITS, rows_per_task=rows_per_task, duplicates=DuplicatesConfig(near=near)
    )
    assert shard_corpus(tmp_path / "manifest.jsonl", tmp_path / "out", config).num_samples == 20
    found = splits_of_media(tmp_path / "out")
    assert len(found) == 40
    assert all(len(splits) == 1 for splits in found.values())
    assert len(set.union(*found.values())) > 2


def test_rows_that_meet_in_alternatives_alone_share_a_split(tmp_path):
    for n in range(24):
        write_image(tmp_path / f"{n}.png", n)
    write_image(tmp_path / "shared.png", 99)
    alternative = {"image.3": "shared.png"}
    rows = [
        {"id": str(n), "image": f"{n}.png"} | (alternative if n % 3 == 0 else {}) for n in range(24)
    ]
    write_rows(tmp_path, rows)
    config = ShardingConfig(splits=TEN_SPLITS, rows_per_task=5)
    shard_corpus(tmp_path / "manifest.jsonl", tmp_path / "out", config)
    assert len(splits_of(tmp_path / "out", *(str(n) for n in range(0, 24, 3)))) == 1
    assert len(splits_of(tmp_path / "out", *(str(n) for n in range(24) if n % 3))) > 2


def test_near_pictures_and_texts_of_alternatives_share_a_split(tmp_path):
    rows = []
    for n in range(12):
        smooth_image(tmp_path / f"{n}.png", n)
        small = Image.open(tmp_path / f"{n}.png").convert("RGB").resize((72, 48))
        small.save(tmp_path / f"{n}.jpg", quality=60)
        write_image(tmp_path / f"main-{n}.png", 100 + n)
        said = " ".join(f"{n * 97 + k * 31:05d}" for k in range(30))
        rows += [
            {"id": f"p{n}", "image": f"{n}.png"},
            {"id": f"q{n}", "image": f"main-{n}.png", "image.1": f"{n}.jpg"},
            {"id": f"t{n}", "text": f"{LONG if n == 0 else ''} {said}"},
            {"id": f"u{n}", "text": f"short {n}", "text.1": f"{LONG if n == 0 else ''} {said}!"},
        ]
    write_rows(tmp_path, rows)
    config = ShardingConfig(splits=TEN_SPLITS, rows_per_task=7)
    shard_corpus(tmp_path / "manifest.jsonl", tmp_path / "out", config)
    for n in range(12):
        assert len(splits_of(tmp_path / "out", f"p{n}", f"q{n}")) == 1
        assert len(splits_of(tmp_path / "out", f"t{n}", f"u{n}")) == 1


def test_a_shared_alternative_makes_no_row_a_copy_of_another(tmp_path):
    for n in range(3):
        smooth_image(tmp_path / f"{n}.png", n)
    rows = [
        {"id": "a", "image": "0.png"},
        {"id": "b", "image": "1.png", "image.1": "0.png"},
        {"id": "c", "image": "2.png", "image.1": "0.png"},
    ]
    write_rows(tmp_path, rows)
    config = ShardingConfig(duplicates=DuplicatesConfig(near="drop"))
    report = shard_corpus(tmp_path / "manifest.jsonl", tmp_path / "out", config)
    assert (report.num_samples, report.num_rejected) == (3, 0)


def test_splits_of_the_corpus_that_meet_in_an_alternative_are_reported(tmp_path):
    for n in range(2):
        write_image(tmp_path / f"{n}.png", n)
    rows = [
        {"id": "a", "image": "0.png", "image.1": "1.png"},
        {"id": "b", "image": "1.png", "split": "test"},
    ]
    write_rows(tmp_path, rows)
    report = shard_corpus(tmp_path / "manifest.jsonl", tmp_path / "out", ShardingConfig())
    assert report.straddling == 1


def test_what_is_appended_follows_the_alternatives_of_samples_before_it(tmp_path):
    out = tmp_path / "out"
    for n in range(36):
        write_image(tmp_path / f"{n}.png", n)
    write_image(tmp_path / "none.png", 99)
    first = [{"id": "gone", "image": "missing.png", "image.1": "none.png"}]
    first += [{"id": f"a{n}", "image": f"{n}.png", "image.1": f"{n + 12}.png"} for n in range(12)]
    first.insert(5, first[3] | {"id": "again"})
    config = ShardingConfig(splits=TEN_SPLITS, rows_per_task=4, max_reject_share=0.5)
    shard_corpus(write_rows(tmp_path, first), out, config)
    table = SignatureFile.open(out / "signatures" / "generation-000.npy")
    assert table.rows == 12
    assert table.alternatives is not None
    assert table.alternatives.read(0, 12)["number"].tolist() == list(range(12))
    second = [{"id": f"b{n}", "image": f"{n + 12}.png"} for n in range(6)]
    second += [
        {"id": f"b{n}", "image": f"{n + 24}.png", "image.1": f"{n + 12}.png"} for n in range(6, 12)
    ]
    shard_corpus(write_rows(tmp_path, second), out, config, append=True)
    for n in range(12):
        assert len(splits_of(out, f"a{n}", f"b{n}")) == 1
    assert len(list(samples(out))) == 24
    assert all(len(splits) == 1 for splits in splits_of_media(out).values())


def test_only_rows_with_alternatives_take_more_room(tmp_path):
    write_image(tmp_path / "0.png", 0)
    rows = [{"id": str(n), "text": f"note {n}"} for n in range(9)]
    shard_corpus(write_rows(tmp_path, rows), tmp_path / "plain", ShardingConfig())
    rows[4] |= {"text.1": "another", "image": "0.png"}
    shard_corpus(write_rows(tmp_path, rows), tmp_path / "more", ShardingConfig())
    name = "signatures/generation-000.npy"
    plain, more = (SignatureFile.open(tmp_path / out / name) for out in ("plain", "more"))
    assert plain.alternatives is None
    assert plain.path.stat().st_size == plain.stop
    assert more.alternatives is not None
    assert more.alternatives.rows == 1
    assert np.load(more.path, allow_pickle=False).shape == (9,)


@pytest.mark.parametrize("lost", [1, 200, 355])
def test_a_table_of_alternatives_that_was_cut_off_is_refused(tmp_path, lost):
    shard_corpus(
        write_rows(tmp_path, [{"id": "a", "text": ["x", "y"]}]), tmp_path / "out", ShardingConfig()
    )
    path = tmp_path / "out" / "signatures" / "generation-000.npy"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ValueError, match="generation-000"):
        SignatureFile.open(path)
