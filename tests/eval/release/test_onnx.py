"""ONNX graphs of a release compute what torch computes, and hold no path of ours."""

import importlib.util

import pytest
import torch

from eval.release.publish import PublishConfig
from eval.release.reference_inputs import made_up_batch
from pretrain.models import Backbone
from pretrain.models.onnx_export import OUTPUTS, PACKAGES, export_onnx, refuse_without_onnx
from tiny_release import checking_here, publish_small

if not all(importlib.util.find_spec(name) for name in PACKAGES):
    pytest.skip("pip install 'triptych[onnx]'", allow_module_level=True)

MODALITIES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def release(tmp_path_factory, sample_shards):
    with checking_here():
        return publish_small(tmp_path_factory.mktemp("onnx"), sample_shards, onnx=True)


def run(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    read = {entry.name for entry in session.get_inputs()}
    found = session.run(None, {name: v.numpy() for name, v in inputs.items() if name in read})
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, found), strict=True))


def test_the_graphs_together_give_the_joint_backbones_embeddings(release):
    backbone = Backbone.load(release)
    batch = made_up_batch(backbone)
    expected = backbone.encode(batch)
    arguments = backbone.read_by_encoders(backbone.inputs(batch))
    names = {"text": ("token_ids", "token_mask"), "image": ("image",), "audio": ("log_mel",)}
    parts = {}
    for name in MODALITIES:
        given = dict(zip(names[name], arguments[name], strict=True))
        parts |= run(release / "onnx" / f"{name}.onnx", given)
        found = parts[f"{name}_embedding"]
        torch.testing.assert_close(found, getattr(expected, name), rtol=1e-4, atol=1e-4)
    assert set(parts) == {f"{name}_{kind}" for name in MODALITIES for kind in OUTPUTS}
    fused = run(release / "onnx" / "fusion.onnx", {"available": batch.present, **parts})["fused"]
    torch.testing.assert_close(fused, expected.fused, rtol=1e-4, atol=1e-4)


def test_graphs_take_any_number_of_rows_and_are_named_in_the_card(release):
    found = run(release / "onnx" / "image.onnx", {"image": torch.zeros(7, 3, 32, 32)})
    assert found["image_embedding"].shape == (7, 32)
    assert "`onnx/` holds audio.onnx, fusion.onnx" in (release / "README.md").read_text()


def test_graphs_do_not_tell_which_files_they_were_made_from(release):
    for path in (release / "onnx").iterdir():
        assert b".py" not in path.read_bytes()


def test_a_graph_that_computes_something_else_is_refused(release, tmp_path, monkeypatch):
    backbone = Backbone.load(release)
    monkeypatch.setattr("pretrain.models.onnx_export.TOLERANCE", -1.0)
    with pytest.raises(ValueError, match=r"text\.onnx differs from torch"):
        export_onnx(backbone, tmp_path / "onnx")


def test_without_the_packages_the_command_that_installs_them_is_told(monkeypatch):
    monkeypatch.setattr(
        "pretrain.models.onnx_export.find_spec", lambda name: None if name == "onnx" else object()
    )
    with pytest.raises(ValueError, match=r"needs onnx, .*pip install 'triptych\[onnx\]'"):
        refuse_without_onnx()
    with pytest.raises(ValueError, match="needs onnx"):
        PublishConfig(licence="cc-by-4.0", onnx=True)
