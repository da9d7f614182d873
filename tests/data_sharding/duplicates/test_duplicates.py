import json
from collections import defaultdict
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_sharding.duplicates import (
    DuplicatesConfig,
    SignatureFile,
    SignatureFiles,
    Signer,
    find_alike,
)
from data_sharding.duplicates.buckets import Buckets, neighbours
from data_sharding.duplicates.search import RECALL, band_width
from data_sharding.duplicates.signatures import PERMUTATIONS
from data_sharding.duplicates.table import write_signatures
from data_sharding.duplicates.union import UnionFile
from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ShardReader
from tiny_corpus import write_corpus, write_image, write_rows, write_tone

LONG = "the quick brown fox jumps over the lazy dog near the river bank today"
CHINESE = (
    "春天来了公园里的樱花都开了很多人带着孩子来看花拍照"
    "吃点心非常热闹今天的天气也特别好风很小太阳很暖和"
)


def smooth_image(path, number, size=(96, 64)):
    """A picture of coarse shapes, as photographs have."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (18, 24, 3), dtype=np.uint8))
    coarse.resize(size, Image.Resampling.BICUBIC).save(path)


def rejects_of(out):
    lines = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    return {line["id"]: (line["reason"], line["detail"]) for line in lines}


def ids_by_split(out):
    shard_set = ShardSet.open(out)
    reader = ShardReader(shard_set)
    found = defaultdict(set)
    for sample_id in range(shard_set.num_samples):
        card = json.loads(bytes(reader.read(sample_id).members["json"]))
        found[reader.locate(sample_id)[0].split].add(card["id"])
    return found


def test_a_repeated_row_is_left_out_and_names_the_first(tmp_path):
    rows = [
        {"id": name, "text": text} for name, text in zip("abcd", ["x", "y", "x", "x"], strict=True)
    ]
    write_rows(tmp_path, rows)
    report = shard_corpus(tmp_path, tmp_path / "out", ShardingConfig(rows_per_task=2))
    assert report.rejects == {"duplicate": 2}  # more than the budget of rejects, but no rejects
    assert rejects_of(tmp_path / "out") == {
        "c": ("duplicate", "it repeats row 1"), "d": ("duplicate", "it repeats row 1")
    }  # fmt: skip


def test_a_repeated_row_may_be_kept(tmp_path):
    write_rows(tmp_path, [{"id": "a", "text": "x"}, {"id": "b", "text": "x"}])
    config = ShardingConfig(duplicates=DuplicatesConfig(exact="keep"))
    assert shard_corpus(tmp_path, tmp_path / "out", config).num_samples == 2


def test_rows_that_differ_in_one_modality_or_label_are_no_duplicates(tmp_path):
    write_image(tmp_path / "a.png", 1)
    write_tone(tmp_path / "a.wav", 1)
    same = {"text": "x", "image": "a.png", "audio": "a.wav"}
    others = [same | {"text": "y"}, {"text": "x", "image": "a.png"}, same | {"labels": {"a": "b"}}]
    write_rows(tmp_path, [{"id": str(n), **row} for n, row in enumerate([same, *others])])
    assert shard_corpus(tmp_path, tmp_path / "out", ShardingConfig()).num_rejected == 0


def near_pairs(tmp_path):
    """Six pairs of rows that are alike in one of the ways that count."""
    smooth_image(tmp_path / "p.png", 1)
    picture = Image.open(tmp_path / "p.png").convert("RGB")
    picture.resize((72, 48)).save(tmp_path / "small.jpg", quality=60)
    smooth_image(tmp_path / "q.png", 2)
    write_tone(tmp_path / "t.wav", 1)
    texts = [LONG, LONG.replace("lazy", "Lazy ") + "!", CHINESE, CHINESE.replace("今天", "昨天")]
    return [
        {"id": "p0", "image": "p.png"}, {"id": "p1", "image": "small.jpg"},
        {"id": "q0", "image": "q.png", "text": "a"}, {"id": "q1", "image": "q.png", "text": "b"},
        {"id": "t0", "audio": "t.wav", "text": "c"}, {"id": "t1", "audio": "t.wav", "text": "d"},
        *({"id": f"e{n}", "text": text} for n, text in enumerate(texts[:2])),
        *({"id": f"c{n}", "text": text} for n, text in enumerate(texts[2:])),
    ]  # fmt: skip


def test_what_is_alike_shares_a_split(tmp_path):
    alike = near_pairs(tmp_path)
    fill = [{"id": f"n{n}", "text": f"note number {n}"} for n in range(40)]
    write_rows(tmp_path, [*alike[::2], *fill, *alike[1::2]])
    splits = {f"s{n}": 0.1 for n in range(10)}
    shard_corpus(tmp_path, tmp_path / "out", ShardingConfig(splits=splits, rows_per_task=7))
    found = ids_by_split(tmp_path / "out")
    assert len(found) > 5
    for first, second in zip(alike[::2], alike[1::2], strict=True):
        assert any({first["id"], second["id"]} <= ids for ids in found.values())


def test_near_copies_are_dropped_only_where_all_modalities_are_near(tmp_path):
    write_rows(tmp_path, near_pairs(tmp_path))
    config = ShardingConfig(duplicates=DuplicatesConfig(near="drop"), max_reject_share=0.0)
    shard_corpus(tmp_path, tmp_path / "out", config)
    reasons = {name: reason for name, (reason, _) in rejects_of(tmp_path / "out").items()}
    assert reasons == dict.fromkeys(["p1", "e1", "c1"], "near-duplicate")


def test_short_texts_and_pictures_of_one_colour_are_not_near_anything(tmp_path):
    Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "red.png")
    Image.new("RGB", (32, 32), (30, 30, 200)).save(tmp_path / "blue.png")
    rows = [
        {"id": "a", "text": "a dog", "image": "red.png"},
        {"id": "b", "text": "a dog", "image": "blue.png", "split": "test"},
    ]
    write_rows(tmp_path, rows)
    assert shard_corpus(tmp_path, tmp_path / "out", ShardingConfig()).straddling == 0


def test_clusters_that_straddle_the_corpus_s_own_splits_are_reported(tmp_path):
    rows = [{"id": "a", "text": LONG}, {"id": "b", "text": LONG + "!", "split": "test"}]
    write_rows(tmp_path, rows)
    report = shard_corpus(tmp_path, tmp_path / "out", ShardingConfig())
    assert report.straddling == 1
    assert "--splits" in report.summary()


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    groups=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    rows_per_task=st.integers(1, 11),
)
def test_no_cluster_ever_straddles_hashed_splits(tmp_path_factory, data, groups, rows_per_task):
    folder = tmp_path_factory.mktemp("c")
    words = [
        f"group {g} " + " ".join(f"{g * 97 + k * 31:05d}" for k in range(30)) for g in range(10)
    ]
    rows = [
        {"id": f"{g}-{n}", "text": words[g] + f" {data.draw(st.integers(0, 99))}"}
        for n, g in enumerate(groups)
    ]
    write_rows(folder, rows)
    config = ShardingConfig(
        splits={"a": 0.4, "b": 0.3, "c": 0.3}, rows_per_task=rows_per_task, samples_per_shard=5
    )
    shard_corpus(folder, folder / "out", config)
    where = defaultdict(set)
    for split, ids in ids_by_split(folder / "out").items():
        for name in ids:
            where[name.partition("-")[0]].add(split)
    assert all(len(splits) == 1 for splits in where.values())


@given(
    rows=st.integers(1, 60),
    pairs=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=80),
)
def test_trees_are_the_connected_components_named_by_their_first_row(tmp_path_factory, rows, pairs):
    pairs = [(a % rows, b % rows) for a, b in pairs]
    forest = UnionFile(tmp_path_factory.mktemp("u") / "forest", rows)
    forest.unite(np.array(pairs, dtype=np.int64).reshape(-1, 2))
    forest.flatten()
    label = list(range(rows))
    for _ in range(rows):
        for a, b in pairs:
            label[a] = label[b] = min(label[a], label[b])
    assert forest.roots(0, rows).tolist() == label


@given(keys=st.lists(st.integers(0, 5), max_size=200))
def test_rows_with_one_key_form_one_chain(tmp_path_factory, keys):
    buckets = Buckets(tmp_path_factory.mktemp("b") / "f", len(keys))
    values = np.array([key << 61 for key in keys], dtype=np.uint64)
    for start in range(0, len(keys), 50):
        piece = values[start : start + 50]
        buckets.add(piece, np.arange(start, start + len(piece)))
    found = {tuple(pair) for pairs in buckets.pairs() for pair in pairs.tolist()}
    kept = defaultdict(list)
    for start in range(0, len(keys), 50):
        for key in set(keys):
            here = [n for n in range(start, min(start + 50, len(keys))) if keys[n] == key]
            kept[key] += here[:8]
    assert all(keys[a] == keys[b] and a < b for a, b in found)
    assert {pair for rows in kept.values() for pair in pairwise(rows)} <= found


def test_a_key_that_all_rows_share_costs_no_square():
    pairs = sum(len(left) for left, _ in neighbours(np.zeros(100_000, dtype=np.uint64)))
    assert pairs < 9 * 100_000


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_texts_at_the_wanted_similarity_nearly_always_meet(similarity):
    width = band_width(similarity)
    assert 1 - (1 - similarity**width) ** (PERMUTATIONS // width) >= RECALL


def test_signatures_are_found_again_across_files(tmp_path):
    signer = Signer(DuplicatesConfig())
    rows = [signer.sign({"txt": str(n).encode()}, {}, None, str(n)) for n in range(10)]
    tables = []
    for number, piece in enumerate((rows[:4], rows[4:5], rows[5:])):
        table = np.array(piece)
        write_signatures(tmp_path / f"{number}.npy", len(table), iter([table]))
        assert np.load(tmp_path / f"{number}.npy", allow_pickle=False).dtype == table.dtype
        tables.append(SignatureFile.open(tmp_path / f"{number}.npy"))
    together = SignatureFiles(tables)
    wanted = np.array([9, 0, 4, 4, 7])
    assert together.gather(wanted)["text"].tolist() == [rows[n]["text"] for n in wanted]
    alike = find_alike(together, 0, DuplicatesConfig(), tmp_path / "scratch")
    assert alike.clusters.roots(0, 10).tolist() == list(range(10))


def test_recompressed_pictures_are_near_and_other_pictures_are_not(tmp_path):
    signer, hashes = Signer(DuplicatesConfig()), []
    for number in range(30):
        smooth_image(tmp_path / "x.png", number)
        picture = Image.open(tmp_path / "x.png").convert("RGB")
        out = BytesIO()
        picture.save(out, "JPEG", quality=70)
        hashes.append([perceptual(signer, image) for image in (picture, Image.open(out))])
    bits = np.unpackbits(np.array(hashes), axis=2)
    assert ((bits[:, 0] != bits[:, 1]).sum(axis=1) <= 16).all()
    apart = (bits[:, None, 0] != bits[None, :, 0]).sum(axis=2)
    assert apart[~np.eye(30, dtype=bool)].min() > 40


def perceptual(signer, image):
    import torch

    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
    return signer.sign({"png": b"x"}, {}, pixels, None)["perceptual"]


def test_a_corpus_of_other_pictures_has_no_clusters(tmp_path):
    write_corpus(tmp_path, 24)
    config = ShardingConfig(duplicates=DuplicatesConfig(near="drop"))
    assert shard_corpus(tmp_path, tmp_path / "out", config).num_samples == 24
