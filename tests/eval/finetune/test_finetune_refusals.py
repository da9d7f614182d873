"""What would discard hours of fine-tuning is refused before the first step."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_finetune import make_backbone, make_inputs, make_problems

from eval.card import TaskCard
from eval.finetune import FineTuneConfig, TaskConfig, fine_tune_task, start_of
from eval.finetune.checks import refuse_bad_splits
from eval.importers import TableConfig, import_table
from eval.importers.sample_topics import sample_topics_card
from eval.splits import SplitConfig
from tiny_tasks import write_few_topics

CARD = replace(sample_topics_card(), classes=("a", "b", "[rare]"))
TEXT = TaskConfig(
    representations=("text",),
    splits=SplitConfig(num_splits=2, num_seeds=2),
    finetune=FineTuneConfig(epochs=1, device="cpu"),
)


@pytest.fixture
def trained(monkeypatch):
    """Representations whose training was begun, none of which ends."""
    begun = []

    def begin(backbone, inputs, problems, name, config, workers):
        begun.append(name)
        raise AssertionError("trained before all was looked at")

    monkeypatch.setattr("eval.finetune.task.fine_tune_splits", begin)
    return begun


@pytest.fixture(scope="module")
def problems(sample_shards):
    backbone = make_backbone(sample_shards)
    return make_problems(make_inputs(backbone, (np.arange(48) % 3).astype(np.int64)), 3)


def write_moods(folder):
    """Groups of two classes; in one of them a third class is a minority."""
    folder.mkdir()
    rows = []
    for number in range(48):
        mood = "rare" if number == 0 else ("low", "high")[number // 4 % 2]
        words = f"person number {number} was heard to say something {mood}"
        rows.append({"id": f"r{number}", "text": words, "mood": mood, "who": f"w{number // 4}"})
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = TableConfig(label="mood", group="who", name="moods")
    return import_table(folder / "table.jsonl", folder / "task", config)


def test_a_class_that_one_split_cannot_train_is_named_before_anything_is_trained(
    checkpoint, tmp_path, trained
):
    task = write_moods(tmp_path / "moods")
    with pytest.raises(
        ValueError, match=r"text, split \d of 8: no training sample is 'rare'.*seed"
    ):
        fine_tune_task(
            start_of(checkpoint),
            task,
            replace(TEXT, splits=SplitConfig(num_splits=8)),
            tmp_path / "report.json",
        )
    assert not trained


def test_every_fault_of_every_representation_is_told_at_once(problems):
    first, second, third = problems
    refuse_bad_splits(CARD, {"text": problems})
    split = second.split
    few = replace(split, train=split.train[second.labels[split.train] != 2])
    bare = replace(third.split, test=np.zeros(0, dtype=np.int64))
    torn = replace(split, validation=np.append(split.validation, split.train[0]))
    posed = {
        "text": [first, replace(second, split=few), third],
        "image": [first, second, replace(third, split=bare)],
        "fused": [replace(first, split=torn), second, third],
    }
    with pytest.raises(ValueError, match="nothing was trained") as refusal:
        refuse_bad_splits(CARD, posed)
    told = str(refusal.value)
    assert "text, split 2 of 3: no training sample is '[rare]'" in told
    assert "image, split 3 of 3: the test part of a split is empty" in told
    assert "fused, split 1 of 3: 1 groups lie in more than one part" in told
    assert "--splits.seed" in told
    fixed: TaskCard = replace(CARD, learn_split=None, split=None, fixed_parts=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"--splits\.train-share 1"):
        refuse_bad_splits(fixed, posed)
    many = {f"text {place}": posed["text"] for place in range(7)}
    with pytest.raises(ValueError, match="and 2 more"):
        refuse_bad_splits(CARD, many)


@pytest.mark.parametrize("name", ["report.json", "report.json.partial"])
def test_a_file_that_is_no_report_is_not_overwritten(
    checkpoint, few_topics, tmp_path, trained, name
):
    (tmp_path / name).write_text('{"thesis": "ten years of work"}')
    with pytest.raises(ValueError, match=f"{name}: not a fine-tuning report.* is not overwritten"):
        fine_tune_task(start_of(checkpoint), few_topics, TEXT, tmp_path / "report.json")
    assert "thesis" in (tmp_path / name).read_text()
    assert not trained


def test_a_place_that_takes_no_report_is_refused_before_anything_is_trained(
    checkpoint, few_topics, tmp_path, trained
):
    (tmp_path / "file").write_text("in the way")
    start = start_of(checkpoint)
    with pytest.raises(ValueError, match=r"report\.json could not be written"):
        fine_tune_task(start, few_topics, TEXT, tmp_path / "file" / "report.json")
    with pytest.raises(ValueError, match="is a folder"):
        fine_tune_task(start, few_topics, TEXT, tmp_path)
    fused = replace(TEXT, representations=("fused",))
    with pytest.raises(ValueError, match="head could not be written"):
        fine_tune_task(
            start, few_topics, fused, tmp_path / "r.json", keep=tmp_path / "file" / "head"
        )
    assert not trained


@pytest.mark.parametrize("names", [("fused",), ("text", "fused")])
def test_modality_dropout_is_refused_where_the_task_has_one_modality(
    checkpoint, tmp_path, trained, names
):
    start, out = start_of(checkpoint), tmp_path / "report.json"
    dropping = FineTuneConfig(epochs=1, device="cpu", modality_dropout=0.3)
    config = replace(TEXT, representations=names, finetune=dropping)
    texts = write_few_topics(tmp_path / "texts", ("text",))
    with pytest.raises(ValueError, match="modality_dropout is of no use here"):
        fine_tune_task(start, texts, config, out)
    assert not trained
    with pytest.raises(AssertionError, match="trained before"):  # of two modalities it is of use
        fine_tune_task(start, write_few_topics(tmp_path / "two", ("text", "image")), config, out)
