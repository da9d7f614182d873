"""Whatever is given out or kept: a full disk is one sentence with the place and what to do."""

import errno
import importlib.util

import pytest
from safetensors import SafetensorError

from eval.finetune import FineTuneConfig, TaskConfig, fine_tune_task, start_of
from eval.probes.linear_probe import LinearProbeConfig
from eval.release.embed import EmbedConfig, embed
from eval.release.head import fit_head
from eval.release.publish import PublishConfig, publish
from eval.splits import SplitConfig
from launch.commands import COMMANDS
from pretrain.disk_room import NoRoomError
from pretrain.models.onnx_export import PACKAGES

GRID = LinearProbeConfig(inverse_regularisation=(1.0,))
FULL = "not written: No space left on device .* make room, or"


def full(*asked, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def no_room_for_tensors(monkeypatch):
    """As safetensors tells of it."""

    def save(tensors, path):
        path.write_bytes(b"a part")
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    for module in ("pretrain.models.backbone", "eval.release.head", "eval.finetune.splits"):
        monkeypatch.setattr(f"{module}.save_file", save)


def test_publish_tells_of_a_full_disk(checkpoint, tmp_path, no_room_for_tensors):
    with pytest.raises(NoRoomError, match=f"{tmp_path / 'out'}: {FULL} name a place"):
        publish(checkpoint, tmp_path / "out", PublishConfig(licence="cc0-1.0", without_probes=True))
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in PACKAGES),
    reason="pip install 'triptych[onnx]'",
)
def test_publish_tells_of_a_full_disk_that_onnx_met(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("onnx.save", full)
    config = PublishConfig(licence="cc0-1.0", without_probes=True, onnx=True)
    with pytest.raises(NoRoomError, match=f"{tmp_path / 'out'}: {FULL} name a place"):
        publish(checkpoint, tmp_path / "out", config)
    assert not any(tmp_path.iterdir())


def test_fit_head_tells_of_a_full_disk(release, few_topics, tmp_path, no_room_for_tensors):
    with pytest.raises(NoRoomError, match=f"{tmp_path / 'head'}: {FULL} name a place"):
        fit_head(release, few_topics, tmp_path / "head", GRID)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("keep", "workers", "words"),
    [
        ("head", 1, f"head: {FULL} name a place"),
        (None, 2, rf"report\.json\.inputs-\w+: {FULL} give --workers 1"),
    ],
)
def test_fine_tuning_tells_of_a_full_disk(
    checkpoint, few_topics, tmp_path, no_room_for_tensors, keep, workers, words
):
    config = TaskConfig(
        representations=("fused",),
        splits=SplitConfig(num_splits=2),
        finetune=FineTuneConfig(epochs=1, device="cpu"),
        workers=workers,
    )
    kept = tmp_path / keep if keep else None
    with pytest.raises(NoRoomError, match=words):
        fine_tune_task(
            start_of(checkpoint), few_topics, config, tmp_path / "report.json", keep=kept
        )
    assert [path.name for path in tmp_path.iterdir()] == (["report.json"] if keep else [])


@pytest.mark.parametrize("name", ["e.parquet", "e.npy"])
def test_embed_tells_of_a_full_disk(release, tmp_path, monkeypatch, name):
    (tmp_path / "frog.txt").write_text("a frog")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NoRoomError, match=f"{tmp_path / name}: {FULL} name a place"):
        embed([str(tmp_path / "frog.txt")], release, tmp_path / name, EmbedConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["frog.txt"]


def test_predict_tells_of_a_full_disk(release, few_topics, tmp_path, monkeypatch):
    fit_head(release, few_topics, tmp_path / "head", GRID)
    (tmp_path / "frog.txt").write_text("a frog")
    out = tmp_path / "l.jsonl"
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NoRoomError, match=f"{out}: {FULL} name a place"):
        COMMANDS["predict"](
            [str(tmp_path / "frog.txt"), "--head", str(tmp_path / "head"), "--out", str(out)]
        )
    assert not out.exists()
