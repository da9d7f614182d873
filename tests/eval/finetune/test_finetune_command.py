"""`triptych finetune` from a checkpoint to a report, a table and a head that labels."""

import json
import shutil

import numpy as np
import pytest
import torch

from eval.finetune import (
    FineTuneConfig,
    TaskConfig,
    fine_tune,
    fine_tune_task,
    format_report,
    read_fine_tunes,
    read_inputs,
    report_file,
    start_of,
)
from eval.finetune.task import UNUSED_GRIDS
from eval.importers import TableConfig, import_table
from eval.probes.problems import split_problems, task_splits
from eval.release.embed import ReadingConfig, Tally
from eval.release.head import load_head
from eval.release.predict import predict
from eval.splits import SplitConfig
from launch.commands import COMMANDS
from pretrain.checkpoint import open_checkpoint
from pretrain.checkpoint.leases import is_leased
from pretrain.models import Backbone
from tiny_tasks import CLASSES, write_intensities

WORDS = ["--finetune.epochs", "1", "--finetune.device", "cpu", "--splits.num-splits", "2"]
QUICK = TaskConfig(
    splits=SplitConfig(num_splits=2, num_seeds=2), finetune=FineTuneConfig(epochs=1, device="cpu")
)


@pytest.fixture(scope="module")
def own(checkpoint, tmp_path_factory):
    """The checkpoint in a run of this module's own."""
    run = tmp_path_factory.mktemp("own") / "run"
    shutil.copytree(checkpoint.run, run, ignore=shutil.ignore_patterns("probes"))
    return open_checkpoint(run / "checkpoints" / checkpoint.folder.name)


@pytest.fixture(scope="module")
def tuned(own, few_topics):
    """The report that the command wrote, and what it printed."""
    config = TaskConfig(**vars(QUICK) | {"representations": ("fused", "text", "audio")})
    report = fine_tune_task(start_of(own), few_topics, config, report_file(own, few_topics))
    return report, format_report(report)


def test_the_report_of_a_run_comes_back_as_it_was_written(tuned, own, few_topics):
    report, _ = tuned
    assert [one.to_json() for one in read_fine_tunes(own.run)] == [report.to_json()]
    text = report_file(own, few_topics).read_text()
    assert json.loads(text)["checkpoint"]["digest"] == own.digest
    assert str(own.run) not in text
    assert "NaN" not in text
    assert read_fine_tunes(own.folder) == []


def test_the_table_tells_floors_classes_and_what_a_masked_modality_costs(tuned):
    report, table = tuned
    for words in ("majority", "without text", "without image", "precision", "recall", *CLASSES):
        assert words in table
    fused = report.representations["fused"]
    assert set(fused.masked) == {"text", "image", "audio"}
    assert all(len(split) == 1 for split in fused.curves)
    assert len(fused.metrics["macro_f1"].per_split) == 2
    assert fused.constant["macro_f1"].mean < 0.25  # one of three classes alone
    assert sum(map(sum, fused.confusion)) == sum(size["test"] for size in fused.split_sizes)
    assert not report.representations["text"].masked


def test_a_broken_report_is_named_and_another_question_is_asked_anew(
    own, few_topics, tmp_path, caplog
):
    out = tmp_path / "finetunes" / "step-00000020" / "few-topics.json"
    config = TaskConfig(**vars(QUICK) | {"representations": ("text",)})
    first = fine_tune_task(start_of(own), few_topics, config, out)
    before = (out.read_bytes(), out.stat().st_mtime_ns)
    again = fine_tune_task(start_of(own), few_topics, config, out)
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before
    assert again.to_json() == first.to_json()
    other = TaskConfig(**vars(config) | {"finetune": FineTuneConfig(epochs=2, device="cpu")})
    assert "will be replaced" not in caplog.text
    changed = fine_tune_task(start_of(own), few_topics, other, out)
    assert f"{out} answers another question: it will be replaced" in caplog.text
    assert [len(curve) for curve in changed.representations["text"].curves] == [2, 2]
    out.write_text('{"format": 1, "task": {}}')
    with pytest.raises(ValueError, match=r"few-topics\.json: .*checkpoint.*fine-tune again"):
        read_fine_tunes(tmp_path)


def test_the_command_keeps_a_head_that_labels_as_the_tuned_model_does(
    own, few_topics, tmp_path, capsys
):
    head, out = tmp_path / "head", tmp_path / "report.json"
    words = [str(own.run), str(few_topics.folder), *WORDS, "--representations", "fused"]
    words += ["--keep", str(head), "--out", str(out)]
    assert COMMANDS["finetune"](words) == 0
    assert "fused" in capsys.readouterr().out
    with pytest.raises(ValueError, match="not empty"):
        COMMANDS["finetune"](words)
    backbone = Backbone.load(own.backbone)
    inputs = read_inputs(backbone, few_topics, ("fused",))
    splits = task_splits(inputs.samples, QUICK.splits)
    everything = inputs.samples.has("fused")
    problem, _ = split_problems(
        few_topics, inputs.samples, splits, UNUSED_GRIDS, ("fused", everything)
    )
    model = fine_tune(backbone, inputs, problem, "fused", QUICK.finetune).model
    kept = load_head(head)
    assert kept.classes == CLASSES
    rows = np.arange(len(inputs.samples.ids))
    with torch.no_grad():
        read = inputs.rows(rows, "fused", torch.device("cpu"))
        present = inputs.present(rows, "fused")
        expected = model(read, present).softmax(1).numpy()
        fused = model.represent(read, present).double().numpy()
    np.testing.assert_allclose(kept.probabilities(fused), expected, atol=1e-5)
    corpus = few_topics.folder.parent / "corpus"
    labelled = {
        record["id"]: record["label"]
        for record in predict([str(corpus / "manifest.jsonl")], head, ReadingConfig(), Tally())
    }
    wanted = [CLASSES[place] for place in expected.argmax(1)]
    assert [labelled[name] for name in inputs.samples.ids] == wanted


def test_a_published_backbone_needs_a_place_for_its_report(release, few_topics, tmp_path):
    words = [str(release), str(few_topics.folder), *WORDS, "--representations", "text"]
    with pytest.raises(ValueError, match="--out"):
        COMMANDS["finetune"](words)
    out = tmp_path / "report.json"
    assert COMMANDS["finetune"]([*words, "--out", str(out)]) == 0
    assert json.loads(out.read_text())["checkpoint"]["name"] == "small"


def test_numbers_of_fixed_parts_are_fine_tuned_and_told_without_percent(own, tmp_path):
    task = write_intensities(tmp_path)
    report = fine_tune_task(start_of(own), task, QUICK, tmp_path / "report.json")
    assert set(report.missing) == {"image", "audio"}
    scores = report.representations["text"].metrics["mae"]
    assert scores.interval is None  # one test part: the deviation over seeds is no interval
    assert "%" not in format_report(report)
    with pytest.raises(ValueError, match="a head needs classes"):
        fine_tune_task(start_of(own), task, QUICK, tmp_path / "r.json", keep=tmp_path / "head")


def test_copies_on_two_sides_are_refused_unless_they_are_dropped(own, tmp_path):
    words = "a awful film it was, said person number 0"  # r0, which trains
    copy = {"id": "copy", "text": words, "joy": -3, "part": "test", "video": "another"}
    task = write_intensities(tmp_path, more=(copy,))
    with pytest.raises(ValueError, match="text of 'r0'"):
        fine_tune_task(start_of(own), task, QUICK, tmp_path / "report.json")
    dropping = TaskConfig(**vars(QUICK) | {"copies": "drop", "representations": ("text",)})
    report = fine_tune_task(start_of(own), task, dropping, tmp_path / "report.json")
    assert report.findings[0].startswith("1 samples that a later part repeats")


def test_inputs_that_do_not_fit_in_memory_are_refused_with_their_size(own, few_topics, monkeypatch):
    backbone = Backbone.load(own.backbone)
    monkeypatch.setattr("eval.finetune.inputs.available_bytes", lambda: 10_000)
    with pytest.raises(ValueError, match=r"36 preprocessed samples \(token_ids, .*0\.0 GB"):
        read_inputs(backbone, few_topics, ("fused",))


def test_only_what_is_read_is_kept(own, few_topics):
    inputs = read_inputs(Backbone.load(own.backbone), few_topics, ("text", "fused_text"))
    assert set(inputs.tensors) == {"token_ids", "token_mask"}


def test_a_head_without_the_fused_representation_is_refused(own, few_topics, tmp_path):
    config = TaskConfig(**vars(QUICK) | {"representations": ("text",)})
    with pytest.raises(ValueError, match="a head reads fused"):
        fine_tune_task(start_of(own), few_topics, config, tmp_path / "r.json", tmp_path / "head")


@pytest.mark.parametrize("reported", [False, True])
def test_a_run_keeps_the_checkpoint_while_it_is_fine_tuned(
    own, few_topics, tmp_path, monkeypatch, reported
):
    """Also where an older report already tells of these very weights."""
    run = tmp_path / "run"
    shutil.copytree(own.run, run, ignore=shutil.ignore_patterns("finetunes"))
    checkpoint = open_checkpoint(run / "checkpoints" / own.folder.name)
    if reported:
        told = report_file(checkpoint, few_topics)
        told.parent.mkdir(parents=True)
        told.write_text(checkpoint.digest)
    leased = []

    def fail(*asked):
        leased.append(is_leased(checkpoint.folder, lease_hours=72.0))
        raise ValueError("out of luck")

    monkeypatch.setattr("launch.finetune_command.fine_tune_task", fail)
    with pytest.raises(ValueError, match="out of luck"):
        COMMANDS["finetune"]([str(run), str(few_topics.folder)])
    assert leased == [True]
    assert not is_leased(checkpoint.folder, lease_hours=72.0)


def test_a_checkpoint_that_cannot_be_leased_is_fine_tuned_with_a_warning(
    own, few_topics, tmp_path, monkeypatch, caplog
):
    def refuse(*asked):
        raise PermissionError("a read-only disk")

    monkeypatch.setattr("launch.finetune_command.take_lease", refuse)
    out = tmp_path / "report.json"
    words = [*WORDS, "--representations", "text", "--out", str(out)]
    assert COMMANDS["finetune"]([str(own.run), str(few_topics.folder), *words]) == 0
    assert out.is_file()
    assert "may be removed by its run meanwhile: a read-only disk" in caplog.text


def test_the_runs_page_is_drawn_before_anything_is_printed(own, few_topics, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(own.run, run)
    (run / "report.html").unlink(missing_ok=True)

    def cut(report):
        raise BrokenPipeError

    monkeypatch.setattr("launch.finetune_command.format_report", cut)
    with pytest.raises(BrokenPipeError):
        COMMANDS["finetune"](
            [str(run), str(few_topics.folder), *WORDS, "--representations", "text"]
        )
    assert "Fine-tuned" in (run / "report.html").read_text()


def test_a_kept_head_says_what_share_of_the_authors_training_part_it_saw(own, tmp_path):
    rows = [
        {"id": f"r{number}", "part": ("train", "train", "valid", "test")[number // 2 % 4]}
        | {"text": f"number {number} is {mood} today, it says", "mood": mood}
        for number in range(48)
        for mood in [("glad", "sad")[number % 2]]
    ]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = TableConfig(label="mood", name="moods", parts="part")
    task = import_table(tmp_path / "table.jsonl", tmp_path / "task", table)
    for share, told in ((0.5, ", 50 % of the training groups"), (1.0, "")):
        config = TaskConfig(
            representations=("fused",),
            splits=SplitConfig(num_seeds=1, train_share=share),
            finetune=QUICK.finetune,
        )
        head, out = tmp_path / f"head-{share}", tmp_path / f"{share}.json"
        fine_tune_task(start_of(own), task, config, out, keep=head)
        record = json.loads((head / "head.json").read_text())
        assert record["split"] == f"the authors' parts{told}"
