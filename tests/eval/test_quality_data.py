"""The quality benchmark holds out what it tests, and its table says what the marks say."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from quality_data import (
    DATASETS,
    Row,
    clustered,
    held_out,
    near_pictures,
    one_per_picture,
    pictures_of,
    plain_name,
    read_rows,
    without_rare_classes,
)
from quality_probe import Marks
from quality_readme import write_between
from quality_recipe import ARMS, Length, arm_config
from quality_table import rows_won, table_json, table_markdown, table_row
from quality_tasks import BLEND, LEARN, PLANS, TABLE_ROWS, TEST, clusters_in, prepare

from tiny_corpus import write_tone

SHARES = dict.fromkeys(DATASETS, 0.4)


def row(number: int, **changes: object) -> Row:
    plain = {
        "dataset": "tuxpaint",
        "id": f"row-{number}",
        "text": "A thing.",
        "image": f"images/{number}.jpg",
        "audio": None,
        "label": "animals",
        "language": "fr",
        "keys": (f"tuxpaint/image/{number}",),
    }
    return Row(**plain | changes)


def write_set(data: Path, dataset: str, rows: list[dict[str, str]]) -> None:
    (data / dataset / "images").mkdir(parents=True, exist_ok=True)
    with (data / dataset / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def draw(path: Path, seed: int, quality: int = 95) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((160, 160), Image.Resampling.BICUBIC).save(path, quality=quality)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two stamps in two languages, and drawings of one of them by name and of the other by look."""
    stamps = [
        {"id": f"{lang}/{name}", "image": f"images/{name}.jpg", "audio": "", "lang": lang,
         "text": f"{name} {lang}", "text_en": f"A {name}.", "label": "animals"}
        for name in ("dog", "cat") for lang in ("fr", "ro")
    ]  # fmt: skip
    drawings = [
        {"id": f"de/{word}", "image": f"images/{word}.jpg", "audio": "", "lang": "de",
         "text": word, "word_en": word, "label": "animal"}
        for word in ("dog", "kitten", "house")
    ]  # fmt: skip
    write_set(tmp_path, "tuxpaint", stamps)
    write_set(tmp_path, "art4apps", drawings)
    for place, name in enumerate(("dog", "cat")):
        draw(tmp_path / "tuxpaint" / "images" / f"{name}.jpg", place)
    draw(tmp_path / "art4apps" / "images" / "dog.jpg", 10)
    draw(tmp_path / "art4apps" / "images" / "kitten.jpg", 1, quality=80)
    draw(tmp_path / "art4apps" / "images" / "house.jpg", 11)
    return tmp_path


def test_a_picture_is_one_cluster_in_every_language_name_and_copy(data):
    rows = [row for name in ("tuxpaint", "art4apps") for row in read_rows(data, name)]
    near = near_pictures(pictures_of(rows, data))
    assert near == [("tuxpaint/image/images/cat.jpg", "art4apps/image/images/kitten.jpg")]
    by_id = {row.id: row.cluster for row in clustered(rows, near)}
    assert by_id["fr/dog"] == by_id["ro/dog"] == by_id["de/dog"]
    assert by_id["fr/cat"] == by_id["ro/cat"] == by_id["de/kitten"]
    assert len(set(by_id.values())) == 3


def test_a_name_is_its_words_alone():
    assert plain_name("A dog.") == plain_name("dog") == plain_name(" The Dog! ") == "dog"
    assert plain_name("Another dog") == "another dog"


@given(
    ties=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    labels=st.lists(st.sampled_from(["animals", "food", None]), min_size=31, max_size=31),
    seed=st.integers(0, 5),
)
def test_no_tied_row_is_seen_by_pretraining_once_one_of_them_is_held_out(ties, labels, seed):
    rows = [row(number, label=labels[number]) for number in range(31)]
    near = [(f"tuxpaint/image/{a}", f"tuxpaint/image/{b}") for a, b in ties]
    rows = clustered(rows, near)
    unseen = held_out(rows, SHARES, seed)
    for a, b in ties:
        assert rows[a].cluster == rows[b].cluster
    assert {row.cluster in unseen for row in rows if row.label is None} <= {True, False}
    labelled = {row.cluster for row in rows if row.label is not None}
    assert unseen <= labelled


def test_about_the_stated_share_of_each_class_is_held_out_and_the_same_each_time():
    rows = clustered([row(n, label="food" if n % 5 == 0 else "animals") for n in range(100)], [])
    unseen = held_out(rows, SHARES, 0)
    for label, count in (("food", 8), ("animals", 32)):
        assert sum(row.cluster in unseen for row in rows if row.label == label) == count
    assert held_out(list(reversed(rows)), SHARES, 0) == unseen
    assert held_out(rows, SHARES, 1) != unseen


def test_a_picture_is_probed_once_in_the_first_language_it_has():
    rows = [
        row(1, id="ru/1", language="ru"),
        row(1, id="fr/1", language="fr"),
        row(2, id="xx/2", language="xx"),
    ]
    assert [row.id for row in one_per_picture(rows)] == ["fr/1", "xx/2"]


def test_a_class_of_few_clusters_loses_its_label_and_not_its_rows():
    rows = clustered([row(n, label="rare" if n < 9 else "common") for n in range(25)], [])
    kept = without_rare_classes(rows)
    assert len(kept) == 25
    assert {row.label for row in kept} == {None, "common"}


def test_labels_and_clusters_reach_the_shards_under_the_keys_the_cards_name():
    record = clustered([row(1)], [])[0].record("probe")
    assert json.loads(json.dumps(record))["labels"] == {"class": "animals"}
    assert record["metadata"] == {"cluster": "tuxpaint/image/1"}


def test_the_tables_replace_what_stood_between_the_markers_and_nothing_else(tmp_path):
    document = tmp_path / "README.md"
    document.write_text("a\n<!-- quality:begin -->\nold\n<!-- quality:end -->\nb\n")
    write_between(document, "quality", "new")
    write_between(document, "quality", "newer")
    assert document.read_text() == "a\n<!-- quality:begin -->\nnewer\n<!-- quality:end -->\nb\n"
    document.write_text("no markers\n")
    with pytest.raises(ValueError, match="quality:begin"):
        write_between(document, "quality", "new")


def write_four_sets(data: Path) -> None:
    """Two classes of a dozen pictures or more in each set; every picture and tone its own."""
    columns = {"tuxpaint": "text_en", "art4apps": "word_en"}
    for place, dataset in enumerate(DATASETS):
        rows = []
        for number in range(24):
            sentence, unique = f"{dataset} {number}", 100 * place + number
            media = {"image": f"images/{number}.jpg", "audio": f"images/{number}.flac"}
            (data / dataset / "images").mkdir(parents=True, exist_ok=True)
            draw(data / dataset / media["image"], unique)
            write_tone(data / dataset / media["audio"], unique % 30)
            kept = {name: media[name] for name in MEDIA[dataset]}
            label = {DATASETS[dataset].label: f"class {number % 2}"}
            extra = {"lang": "fr", columns[dataset]: sentence} if dataset in columns else {}
            ties = {"speaker": str(number % 8)} if dataset == "emodb" else {}
            ties |= {"group": str(number // 2)} if dataset == "mvsa_single" else {}
            rows.append({"id": str(number), "text": sentence, **kept, **label, **extra, **ties})
        write_set(data, dataset, rows)


MEDIA = {
    "tuxpaint": ("image", "audio"),
    "art4apps": ("image", "audio"),
    "mvsa_single": ("image",),
    "emodb": ("audio",),
}


def test_the_shards_hold_nothing_that_a_task_tests_and_are_made_once(tmp_path):
    write_four_sets(tmp_path / "data")
    prepared = prepare(tmp_path / "data", tmp_path / "run", vocab_size=60)
    seen = {
        cluster for name in BLEND for cluster in clusters_in(tmp_path / "run/shards" / name, LEARN)
    }
    tested = {name: clusters_in(folder, TEST) for name, folder in prepared.tasks.items()}
    assert seen
    assert all(tested.values())
    assert not seen & set().union(*tested.values())
    assert len(tested["emodb"]) == 8
    shutil.rmtree(tmp_path / "data")
    assert prepare(tmp_path / "data", tmp_path / "run", vocab_size=60) == prepared


def marks(**scores: list[float]) -> Marks:
    return Marks(
        scores=scores,
        majority=dict.fromkeys(scores, [0.1] * 10),
        test_share=dict.fromkeys(scores, 0.25),
        num_samples=dict.fromkeys(scores, 400),
    )


def all_marks(gain: float) -> dict[str, Marks]:
    """Three seeds of each arm whose every split differs by ``gain`` and a little noise."""
    noise = np.random.default_rng(0).normal(0.0, 0.01, (3, 10))
    plain = [0.3 + 0.01 * split for split in range(10)]
    found = {"raw": marks(image=plain)}
    for seed in range(3):
        found[f"random-{seed}"] = marks(image=plain)
        found[f"full-{seed}"] = marks(
            image=[value + gain + noise[seed, split] for split, value in enumerate(plain)]
        )
    return found


def test_a_row_pairs_splits_averages_seeds_and_says_who_wins():
    row = table_row("topic, image", "image", all_marks(0.05))
    assert row.versus_random.beats
    assert row.versus_random.beats_corrected
    assert row.versus_random.difference.mean == pytest.approx(0.05, abs=0.005)
    assert row.cells["random"].mean == pytest.approx(34.5)
    assert len(row.cells["full"].seeds) == 3
    assert "intra" not in row.cells
    assert rows_won([row]) == ["topic, image"]


def test_the_target_is_missed_and_the_table_says_so_where_pretraining_gives_nothing():
    rows = [table_row(f"row {number}", "image", all_marks(0.0)) for number in range(8)]
    assert not table_json(rows)["met"]
    assert "on 0 of 8 rows; it does not on: row 0" in table_markdown(rows)


def test_the_target_is_met_with_five_rows_of_eight():
    gains = [0.05] * 5 + [-0.02] * 3
    rows = [table_row(f"row {n}", "image", all_marks(gain)) for n, gain in enumerate(gains)]
    assert table_json(rows)["met"]
    assert "on 5 of 8 rows; it does not on: row 5, row 6, row 7" in table_markdown(rows)


def test_every_row_of_the_table_reads_what_its_task_has():
    assert len(TABLE_ROWS) == 8
    for task, subset in TABLE_ROWS.values():
        assert subset in (*PLANS[task].modalities, "fused")


def test_arms_differ_in_objective_and_seed_alone(tmp_path):
    plain = arm_config(ARMS["full"], 0, tmp_path / "blend", tmp_path / "run", Length())
    for name, arm in ARMS.items():
        other = arm_config(arm, 0, tmp_path / "blend", tmp_path / "run", Length())
        restored = replace(
            other.pretrain, objective=plain.pretrain.objective, byol=plain.pretrain.byol
        )
        assert restored == plain.pretrain
        assert (other == plain) == (name == "full")
