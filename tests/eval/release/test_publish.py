import dataclasses
import os
import shutil
import subprocess

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from eval.records import write_json
from eval.release.privacy import refuse_private
from eval.release.publish import PublishConfig, publish, verify_published
from eval.release.release_checks import SUMS_FILE
from pretrain.checkpoint import COMPLETE, CheckpointError, Marker, open_checkpoint
from pretrain.checkpoint.files import FileSum, files_of
from pretrain.health import Finding, Verdict, save_verdict
from pretrain.models import Backbone

APACHE = PublishConfig(licence="apache-2.0")
UNPROBED = dataclasses.replace(APACHE, without_probes=True)


@pytest.fixture(scope="session")
def published(checkpoint, make_report, tmp_path_factory):
    """Published once with a probe report of this checkpoint and one of another."""
    own = copied(checkpoint, tmp_path_factory.mktemp("published"))
    folder = own.run / "probes" / own.folder.name
    report = make_report(step=own.step, digest=own.digest)
    write_json(folder / "clouds.json", report.to_json())
    stale = make_report(step=own.step, digest="ff" * 32, task_name="stale-task")
    write_json(folder / "stale-task.json", stale.to_json())
    return publish(own, own.run.parent / "out", APACHE)


def copied(checkpoint, parent):
    shutil.copytree(checkpoint.run, parent / "run", ignore=shutil.ignore_patterns("probes"))
    return open_checkpoint(parent / "run" / "checkpoints" / checkpoint.folder.name)


def rewritten(checkpoint, change):
    """The checkpoint after a change of its backbone's files, whole again by its marker."""
    change(checkpoint.backbone)
    marker = checkpoint.folder / COMPLETE
    content = Marker.from_text(marker.read_text(), marker)
    marker.unlink()
    sums = {name: FileSum.of(path) for name, path in files_of(checkpoint.folder).items()}
    marker.write_text(dataclasses.replace(content, files=sums).to_text())
    return open_checkpoint(checkpoint.folder)


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_single_encoders_load_with_transformers_alone(published, checkpoint):
    joint = Backbone.load(checkpoint.backbone)
    for name in ("text", "image"):
        alone = AutoModel.from_pretrained(published / name)
        weights = joint.encoders[name].model.state_dict()
        trained = {k: v for k, v in alone.state_dict().items() if not k.startswith("pooler.")}
        assert trained.keys() == weights.keys()
        for key, value in trained.items():
            torch.testing.assert_close(value, weights[key], rtol=0, atol=0)
    tokenizer = AutoTokenizer.from_pretrained(published / "text")
    ids = tokenizer("a frog")["input_ids"]
    assert ids == joint.decoder().tokenize("a frog").tolist()
    AutoImageProcessor.from_pretrained(published / "image")


def test_the_joint_backbone_has_the_checkpoints_weights(published, checkpoint):
    ours = Backbone.load(published).state_dict()
    theirs = Backbone.load(checkpoint.backbone).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_sha256sum_accepts_the_folder(published):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS_FILE], cwd=published, capture_output=True
    )
    assert done.returncode == 0


def test_nothing_but_safetensors_json_and_text_is_published(published):
    suffixes = {path.suffix for path in published.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".md", ".txt", ""}
    bare = [path.name for path in published.rglob("*") if not path.suffix and path.is_file()]
    assert set(bare) == {SUMS_FILE}


def test_the_card_states_licence_scores_floors_and_data(published):
    text = (published / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "apache-2.0"
    scores = {result["task"]["name"] for result in header["model-index"][0]["results"]}
    assert scores == {f"linear probe, {name}" for name in ("text", "image", "late")}
    for words in (
        "### clouds",
        "shuffled labels",
        "| yes |",
        "AutoModel.from_pretrained",
        "The audio encoder is no transformers class",
        "## Limits",
        "Not probed, audio",
        "| manifest.jsonl |",
        "how long it took was not recorded",
        "Energy was not measured",
    ):
        assert words in text
    assert "stale-task" not in text


def test_no_path_user_or_host_leaves_the_house(published, checkpoint):
    refuse_private(published)
    for path in published.rglob("*.*"):
        content = path.read_bytes()
        assert b"gpu-node-17" not in content
        assert bytes(checkpoint.run) not in content


def test_a_checkpoint_without_a_probe_report_is_refused(checkpoint, tmp_path):
    own = copied(checkpoint, tmp_path)
    with pytest.raises(ValueError, match=r"no probe report.*triptych probe .*--without-probes"):
        publish(own, tmp_path / "out", APACHE)
    assert os.listdir(tmp_path) == ["run"]


def test_publishing_again_changes_nothing(published):
    before = tree(published)
    own = open_checkpoint(published.parent / "run")
    publish(own, published, APACHE)
    assert tree(published) == before
    assert sorted(path.name for path in published.parent.iterdir()) == ["out", "run"]


def test_another_release_replaces_the_first_only_when_told_to(
    published, checkpoint, tmp_path, checked_here
):
    out = shutil.copytree(published, tmp_path / "out")
    own = copied(checkpoint, tmp_path)
    with pytest.raises(ValueError, match="another backbone is published here"):
        publish(own, out, UNPROBED)
    (out / "notes.md").write_text("mine")
    other = PublishConfig(licence="cc-by-4.0", overwrite=True, without_probes=True)
    with pytest.raises(ValueError, match=r"holds notes\.md"):
        publish(own, out, other)
    (out / "notes.md").unlink()
    publish(own, out, other)
    card = (out / "README.md").read_text()
    assert "license: cc-by-4.0" in card
    assert "published without probe reports" in card
    assert not (out / "probes").exists()


def test_a_published_folder_that_was_changed_is_found_out(published, tmp_path):
    out = shutil.copytree(published, tmp_path / "out")
    content = bytearray((out / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (out / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors differs"):
        verify_published(out)


@pytest.mark.parametrize("licence", ["", "Apache 2.0"])
def test_a_licence_must_be_given(licence):
    with pytest.raises(ValueError, match="licence is needed"):
        PublishConfig(licence=licence)


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_content_is_never_replaced(checkpoint, tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("years of work")
    config = PublishConfig(licence="apache-2.0", overwrite=overwrite)
    with pytest.raises(ValueError, match="no part of a published backbone"):
        publish(checkpoint, tmp_path, config)
    assert tree(tmp_path) == {"thesis.txt": b"years of work"}


def test_weights_that_are_not_finite_are_refused(checkpoint, tmp_path):
    def poison(backbone):
        state = load_file(backbone / "model.safetensors")
        name = sorted(name for name in state if name.endswith("weight"))[0]
        state[name].view(-1)[0] = float("nan")
        save_file(state, backbone / "model.safetensors")

    own = rewritten(copied(checkpoint, tmp_path), poison)
    with pytest.raises(ValueError, match="NaN or infinite weights"):
        publish(own, tmp_path / "out", UNPROBED)
    assert os.listdir(tmp_path) == ["run"]


def test_a_checkpoint_of_a_collapsed_run_is_refused_unless_asked_for(
    checkpoint, tmp_path, checked_here
):
    finding = Finding(rule="collapse", severity="stop", sentence="audio is one point.")
    own = rewritten(
        copied(checkpoint, tmp_path),
        lambda backbone: save_verdict(Verdict(step=20, findings=(finding,)), backbone.parent),
    )
    with pytest.raises(ValueError, match=r"unfit to publish.*audio is one point.*--allow-unfit"):
        publish(own, tmp_path / "out", APACHE)
    assert os.listdir(tmp_path) == ["run"]
    publish(own, tmp_path / "out", dataclasses.replace(UNPROBED, allow_unfit=True))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "**The run had collapsed when this checkpoint was written**" in card
    assert "\naudio is one point.\n" in card


def test_a_report_under_another_tasks_name_is_refused(checkpoint, make_report, tmp_path):
    own = copied(checkpoint, tmp_path)
    report = make_report(step=own.step, digest=own.digest, task_name="../../outside")
    write_json(own.run / "probes" / own.folder.name / "clouds.json", report.to_json())
    with pytest.raises(ValueError, match=r"clouds\.json: is a report on task '\.\./\.\./outside'"):
        publish(own, tmp_path / "out", APACHE)
    assert os.listdir(tmp_path) == ["run"]


def test_a_release_comes_back_where_its_successor_cannot_take_its_place(
    published, checkpoint, tmp_path, monkeypatch, checked_here
):
    out = shutil.copytree(published, tmp_path / "out")
    own, before, rename = copied(checkpoint, tmp_path), tree(out), os.rename

    def full_disk(source, target):
        if source.name == "new":
            raise OSError("no space")
        rename(source, target)

    monkeypatch.setattr("os.rename", full_disk)
    with pytest.raises(OSError, match="no space"):
        publish(own, out, dataclasses.replace(UNPROBED, overwrite=True))
    assert tree(out) == before
    assert sorted(os.listdir(tmp_path)) == ["out", "run"]


def test_a_pickle_in_the_backbone_is_refused(checkpoint, tmp_path):
    own = copied(checkpoint, tmp_path)
    with pytest.raises(CheckpointError, match="may hold a pickle"):
        rewritten(own, lambda backbone: torch.save({"a": 1}, backbone / "optimizer.pt"))
    with pytest.raises(CheckpointError, match="may hold a pickle"):
        publish(own, tmp_path / "out", APACHE)
    assert os.listdir(tmp_path) == ["run"]


def test_a_checkpoint_that_was_replaced_is_not_published(checkpoint, tmp_path):
    stale = dataclasses.replace(checkpoint, digest="0" * 64)
    with pytest.raises(Exception, match="replaced since it was opened"):
        publish(stale, tmp_path / "out", APACHE)
    assert list(tmp_path.iterdir()) == []
