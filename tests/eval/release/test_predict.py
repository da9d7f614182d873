"""Unseen samples get the label, the probability and the weights that the head stands for."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from eval.importers import TableConfig, import_table
from eval.probes.features import extract_features
from eval.probes.linear_probe import LinearProbeConfig
from eval.release.embed import EmbedConfig, ReadingConfig, Tally, embed
from eval.release.head import fit_head, load_head
from eval.release.predict import ATTENTION, CHANGE, predict
from eval.release.release_checks import write_checksums
from launch.commands import COMMANDS
from pretrain.models import Backbone, Embedder
from tiny_tasks import CLASSES

GRID = LinearProbeConfig(inverse_regularisation=(0.01, 1.0))


@pytest.fixture(scope="module")
def head(release, few_topics, tmp_path_factory):
    out = tmp_path_factory.mktemp("head") / "head"
    fit_head(release, few_topics, out, GRID)
    return out


@pytest.fixture
def pairs(tmp_path):
    """Two pairs of a text and a picture, and a text alone."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    for seed, name in enumerate(("a", "b")):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    for name, words in (("a", "a frog"), ("b", "bread and butter"), ("c", "a tram")):
        (folder / f"{name}.txt").write_text(words)
    return folder


def labelled(pairs, head, **options):
    return list(predict([str(pairs)], head, ReadingConfig(**options), Tally()))


def test_probabilities_are_those_of_the_classifier_on_the_fused_embedding(
    head, release, pairs, tmp_path
):
    records = labelled(pairs, head)
    assert [record["id"] for record in records] == ["a", "b", "c"]
    embed([str(pairs)], release, tmp_path / "e.npy", EmbedConfig())
    expected = load_head(head).probabilities(np.load(tmp_path / "e.npy").astype(np.float64))
    for record, wanted in zip(records, expected, strict=True):
        found = [record["probabilities"][name] for name in CLASSES]
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
        assert sum(found) == pytest.approx(1.0)
        assert record["label"] == CLASSES[int(np.argmax(wanted))]
        assert record["probability"] == max(found)


def test_weights_of_an_attention_fusion_are_its_shares(head, pairs):
    first, _, alone = labelled(pairs, head)
    assert first["weights_are"] == ATTENTION
    assert set(first["weights"]) == {"text", "image"}
    assert sum(first["weights"].values()) == pytest.approx(1.0, abs=1e-5)
    assert alone["weights"] == {"text": pytest.approx(1.0)}


def test_weights_of_other_fusions_are_what_leaving_the_modality_out_changes(
    release, few_topics, pairs, tmp_path
):
    made = Backbone.load(release)
    config = replace(made.config, fusion=replace(made.config.fusion, fusion="concat"))
    torch.manual_seed(0)
    Backbone(config, made.stats, made.tokenizer_file).save(tmp_path / "concat")
    fit_head(tmp_path / "concat", few_topics, tmp_path / "head", GRID)
    first, _, alone = labelled(pairs, tmp_path / "head")
    assert first["weights_are"] == CHANGE
    assert alone["weights"] == {"text": None}
    other = load_head(tmp_path / "head")
    fused = Embedder(other.backbone).encode(text=["a frog"]).fused.double().numpy()
    without = other.probabilities(fused)[0, CLASSES.index(first["label"])]
    assert first["weights"]["image"] == pytest.approx(first["probability"] - without, abs=1e-5)


def test_a_head_beside_another_backbone_is_refused(head, tmp_path):
    out = shutil.copytree(head, tmp_path / "head")
    Backbone.random_like(head / "backbone", 5).save(out / "backbone")
    with pytest.raises(ValueError, match=r"backbone/model\.safetensors differs"):
        load_head(out)
    write_checksums(out)
    with pytest.raises(ValueError, match="is not the backbone that the head was fitted to"):
        load_head(out)


@pytest.mark.parametrize(
    "name", ["head.safetensors", "head.json", "backbone/stats.json", "backbone/tokenizer.json"]
)
def test_a_head_whose_files_were_changed_is_refused_by_the_files_name(head, tmp_path, name):
    out = shutil.copytree(head, tmp_path / "head")
    load_head(out)
    (out / name).write_bytes((out / name).read_bytes() + b" ")
    with pytest.raises(ValueError, match=f"{name} differs"):
        load_head(out)


def write_moods(folder, same_words=()):
    """Sentences in the parts of some authors; the rows of `same_words` have equal ones."""
    lines = ["id,text,mood,place,part"]
    for number in range(18):
        part = ("train", "train", "train", "valid", "test")[number % 5]
        day = same_words[0] if number in same_words else number
        text = f"somebody said this on day number {day}"
        lines.append(f"r{number},{text},{'good' if number % 2 else 'bad'},p{number},{part}")
    (folder / "table.csv").write_text("\n".join(lines))
    config = TableConfig(label="mood", group="place", name="moods", parts="part")
    return import_table(folder / "table.csv", folder / "task", config)


def test_where_authors_fixed_the_parts_the_whole_training_part_is_fitted(release, tmp_path):
    task = write_moods(tmp_path)
    fit_head(release, task, tmp_path / "head", GRID)
    samples, features = extract_features({"a": Backbone.load(release)}, task, names=("fused",))
    assert samples.fixed is not None
    trained = features["a"].by_subset["fused"][samples.fixed.train]
    np.testing.assert_allclose(load_head(tmp_path / "head").mean, trained.mean(0), rtol=1e-4)
    assert json.loads((tmp_path / "head" / "head.json").read_text())["split"] == (
        "the authors' parts"
    )


def test_a_task_with_copies_makes_no_head_unless_they_are_dropped(release, tmp_path):
    task = write_moods(tmp_path, same_words=(3, 4))
    with pytest.raises(ValueError, match=r"text of 'r3' \(validation\) and 'r4' \(test\)"):
        fit_head(release, task, tmp_path / "head", GRID)
    assert not (tmp_path / "head").exists()
    fit_head(release, task, tmp_path / "head", GRID, copies="drop")
    load_head(tmp_path / "head")


def test_what_is_no_head_is_refused(head, tmp_path):
    out = shutil.copytree(head, tmp_path / "head")
    (out / "head.safetensors").write_bytes(b"short")
    write_checksums(out)
    with pytest.raises(ValueError, match="no whole head"):
        load_head(out)
    record = json.loads((out / "head.json").read_text())
    (out / "head.json").write_text(json.dumps(record | {"format": 9}))
    with pytest.raises(ValueError, match="head format 9"):
        load_head(out)
    with pytest.raises(ValueError, match="no such file"):
        load_head(tmp_path)


def test_the_commands_fit_a_head_and_label_a_folder(release, few_topics, pairs, tmp_path, capsys):
    out = tmp_path / "head"
    words = [str(few_topics.folder), "--backbone", str(release), "--out", str(out)]
    assert COMMANDS["fit-head"](words) == 0
    assert "macro-F1" in capsys.readouterr().out
    with pytest.raises(ValueError, match="not empty"):
        COMMANDS["fit-head"](words)
    (pairs / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match=r"d: .*--skip-broken"):
        COMMANDS["predict"]([str(pairs), "--head", str(out), "--out", str(tmp_path / "l.jsonl")])
    assert not (tmp_path / "l.jsonl").exists()
    capsys.readouterr()
    with pytest.raises(ValueError, match=r"d: ") as told:
        COMMANDS["predict"]([str(pairs), "--head", str(out), "--batch-size", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 3  # so nobody may say that none was written
    assert "written" not in str(told.value)
    with pytest.raises(SystemExit):
        COMMANDS["predict"]([str(pairs), "--head", str(out), "--representation", "text"])
    words = [str(pairs), "--head", str(out), "--skip-broken"]
    assert COMMANDS["predict"](words) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["id"] for line in said.out.splitlines()] == ["a", "b", "c"]
    assert "3 samples labelled, 1 left out" in said.err


def test_labels_are_written_as_lines_of_json_and_under_no_other_name(tmp_path):
    for name in ("p.csv", "p.parquet", "p"):
        words = ["unseen", "--head", "head", "--out", str(tmp_path / name)]
        with pytest.raises(ValueError, match=rf"{name}: labels are written as \.jsonl"):
            COMMANDS["predict"](words)
    (tmp_path / "p.jsonl").mkdir()
    words = ["unseen", "--head", "head", "--out", str(tmp_path / "p.jsonl"), "--overwrite"]
    with pytest.raises(ValueError, match="exists already"):
        COMMANDS["predict"](words)
