"""Embeddings of files, folders and tables are what the published backbone gives for them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from PIL import Image

from data_sharding.sources import SourceConfig
from eval.release.embed import EmbedConfig, embed
from eval.release.embed_inputs import Sample
from eval.release.embed_output import write_npy
from launch.commands import COMMANDS
from pretrain.models import Embedder, Embeddings

EXAMPLE = Path(__file__).parents[3] / "examples" / "embed.py"
NAMES = ("text", "image", "audio", "fused")


def write_picture(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_sound(path, seed):
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, 12_000), 16_000)


@pytest.fixture
def media(tmp_path):
    """A folder with two samples, one of them whole, and a table of three rows."""
    folder = tmp_path / "media"
    (folder / "things").mkdir(parents=True)
    write_picture(folder / "things" / "frog.png", 1)
    write_sound(folder / "things" / "frog.wav", 1)
    (folder / "things" / "frog.txt").write_text("a frog")
    write_sound(folder / "things" / "rain.wav", 2)
    rows = ["name,caption,picture", "a,a frog,things/frog.png", "b,rain,", "c,,things/frog.png"]
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return folder


COLUMNS = SourceConfig(columns={"id": "name", "text": "caption", "image": "picture"})


def test_a_folder_becomes_a_table_with_nulls_where_a_modality_is_missing(release, media, tmp_path):
    tally = embed([str(media / "things")], release, tmp_path / "new" / "e.parquet", EmbedConfig())
    assert (tally.embedded, tally.skipped) == (2, 0)
    table = pq.read_table(tmp_path / "new" / "e.parquet")
    assert table.column("id").to_pylist() == ["frog", "rain"]
    expected = Embedder.load(release).encode(
        text=["a frog", None],
        image=[media / "things" / "frog.png", None],
        audio=[media / "things" / "frog.wav", media / "things" / "rain.wav"],
    )
    for name in NAMES:
        found = table.column(name).to_pylist()
        for row, value in enumerate(found):
            if value is None:
                assert not expected.present[row, NAMES.index(name)]
            else:
                wanted = getattr(expected, name)[row]
                torch.testing.assert_close(torch.tensor(value), wanted, rtol=1e-4, atol=1e-5)
    assert table.column("image").null_count == 1
    assert len(table.schema.metadata[b"triptych.backbone"]) == 64


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_rows_of_a_table_keep_their_order_in_any_batches(release, media, tmp_path, batch_size):
    config = EmbedConfig(source=COLUMNS, batch_size=batch_size)
    embed([str(media / "table.csv")], release, tmp_path / "e.npy", config)
    assert json.loads((tmp_path / "e.npy.ids.json").read_text()) == ["a", "b", "c"]
    picture = media / "things" / "frog.png"
    expected = Embedder.load(release).encode(
        text=["a frog", "rain", None], image=[picture, None, picture]
    )
    found = np.load(tmp_path / "e.npy", allow_pickle=False)
    np.testing.assert_allclose(found, expected.fused.numpy(), rtol=1e-4, atol=1e-5)


def test_single_files_are_samples_of_their_own(release, media, tmp_path):
    files = [str(media / "things" / name) for name in ("frog.txt", "frog.png", "rain.wav")]
    embed(files, release, tmp_path / "e.parquet", EmbedConfig())
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.column("source").to_pylist() == files
    assert [table.column(name).null_count for name in NAMES] == [2, 2, 2, 0]


def test_a_broken_file_is_named_and_nothing_is_written(release, media, tmp_path):
    (media / "things" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(ValueError, match=r"things: bad: .*broken PNG.*--skip-broken"):
        embed([str(media / "things")], release, tmp_path / "e.parquet", EmbedConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["media"]


def test_broken_samples_can_be_left_out_and_are_named_and_counted(release, media, tmp_path, capsys):
    (media / "things" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    table = media / "table.csv"
    table.write_text(table.read_text() + "d,,absent.png\ne,,../../outside.png\nf,,\n")
    config = EmbedConfig(source=COLUMNS, skip_broken=True)
    tally = embed([str(table)], release, tmp_path / "rows.parquet", config)
    assert (tally.embedded, tally.skipped) == (3, 3)
    folder = EmbedConfig(skip_broken=True)
    tally = embed([str(media / "things")], release, tmp_path / "e.parquet", folder)
    assert (tally.embedded, tally.skipped) == (2, 1)
    said = capsys.readouterr().err
    for words in ("d: 'absent.png' is no file", "leads out of the corpus folder", "bad: "):
        assert words in said
    assert pq.read_table(tmp_path / "e.parquet").column("id").to_pylist() == ["frog", "rain"]


def test_an_array_has_no_place_for_a_missing_modality(release, media, tmp_path):
    config = EmbedConfig(representation="image")
    with pytest.raises(ValueError, match="rain has no image"):
        embed([str(media / "things")], release, tmp_path / "e.npy", config)
    assert [path.name for path in tmp_path.iterdir()] == ["media"]


def test_an_array_that_cannot_be_made_leaves_the_one_before_and_its_ids(tmp_path):
    def batch(name, dim):
        fused, nothing = torch.ones(1, dim), torch.zeros(1, 0)
        made = Embeddings(
            text=nothing, image=nothing, audio=nothing, fused=fused,
            present=torch.ones(1, 3, dtype=torch.bool),
        )  # fmt: skip
        return [Sample(id=name, source="here", text="a frog")], made

    out = tmp_path / "e.npy"
    write_npy([batch("a", 4)], "fused", out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="dimension"):
        write_npy([batch("b", 4), batch("c", 5)], "fused", out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_npy([batch("b", 4), batch("c", 4)], "fused", out)
    assert json.loads((tmp_path / "e.npy.ids.json").read_text()) == ["b", "c"]
    assert np.load(out).shape == (2, 4)


def test_what_cannot_be_written_or_read_is_told_before_any_work(release, media, tmp_path):
    out = tmp_path / "e.parquet"
    with pytest.raises(ValueError, match=r"\.parquet or \.npy"):
        embed([str(media)], release, tmp_path / "e.csv", EmbedConfig())
    with pytest.raises(ValueError, match="no such"):
        embed([str(media / "absent")], release, out, EmbedConfig())
    (media / "notes.md").write_text("no input")
    with pytest.raises(ValueError, match=r"notes\.md"):
        embed([str(media / "notes.md")], release, out, EmbedConfig())
    with pytest.raises(ValueError, match="no such folder"):
        embed([str(media / "things")], tmp_path / "absent", out, EmbedConfig())
    out.write_bytes(b"mine")
    with pytest.raises(ValueError, match="exists already"):
        embed([str(media / "things")], release, out, EmbedConfig())
    assert out.read_bytes() == b"mine"
    embed([str(media / "things")], release, out, EmbedConfig(overwrite=True))
    assert pq.read_table(out).num_rows == 2


def test_a_checkpoint_and_its_published_backbone_give_the_same(release, media, tmp_path):
    for name, backbone in (("run", release.parent / "run"), ("release", release)):
        embed([str(media / "things")], backbone, tmp_path / f"{name}.npy", EmbedConfig())
    assert (tmp_path / "run.npy").read_bytes() == (tmp_path / "release.npy").read_bytes()


def test_a_flipped_byte_in_the_backbone_is_refused_by_its_files_name(release, media, tmp_path):
    out = shutil.copytree(release, tmp_path / "out")
    content = bytearray((out / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (out / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors: differs from what was published"):
        embed([str(media / "things")], out, tmp_path / "e.npy", EmbedConfig())
    with pytest.raises(ValueError, match=r"model\.safetensors: differs"):
        Embedder.load(out)


def test_the_example_of_the_readme_runs(release, media):
    (media / "backbone").symlink_to(release)
    shutil.copyfile(media / "things" / "frog.wav", media / "frog.wav")
    write_picture(media / "frog.jpg", 1)
    write_picture(media / "street.png", 2)
    done = subprocess.run(
        [sys.executable, EXAMPLE], cwd=media, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch.Size([2, ")
    assert "[[True, True, False], [False, True, False]]" in done.stdout


def test_the_commands_say_what_they_did(release, media, tmp_path, capsys):
    out = tmp_path / "e.parquet"
    arguments = [str(media / "table.csv"), "--backbone", str(release), "--out", str(out)]
    columns = ["id", "name", "text", "caption", "image", "picture"]
    assert COMMANDS["embed"]([*arguments, "--source.columns", *columns]) == 0
    assert capsys.readouterr().out == f"{out}: 3 samples\n"
    assert COMMANDS["verify-backbone"]([str(release / "text")]) == 0
    assert "every file is whole; features as published" in capsys.readouterr().out
