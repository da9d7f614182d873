"""Fine-tuning follows the probes' rule for sentences that several samples say."""

import pytest

from eval.finetune import FineTuneConfig, TaskConfig, fine_tune_task, start_of
from eval.splits import SplitConfig
from tiny_tasks import write_sayings

TEXT = ("text", "image", "fused")


def config(copies):
    return TaskConfig(
        representations=TEXT,
        splits=SplitConfig(num_splits=2),
        finetune=FineTuneConfig(epochs=1, device="cpu"),
        copies=copies,
    )


def test_equal_words_are_left_out_where_text_alone_is_read(checkpoint, tmp_path):
    task = write_sayings(tmp_path, 60, lambda number: number % 6 < 2)
    start = start_of(checkpoint)
    told = fine_tune_task(start, task, config("refuse"), tmp_path / "told.json")
    (found,) = [one for one in told.findings if "have words that" in one]
    assert found.startswith("text: ")
    kept = fine_tune_task(start, task, config("drop"), tmp_path / "kept.json")
    (lost,) = [one for one in kept.findings if "samples whose words a later part repeats" in one]
    assert lost.startswith("text: ")
    assert kept.protocol["equal_words"]
    assert "equal_words" not in told.protocol
    sizes = {
        name: [report.representations[name].split_sizes for report in (told, kept)] for name in TEXT
    }
    assert all(
        after["train"] < before["train"] and after["test"] == before["test"]
        for before, after in zip(*sizes["text"], strict=True)
    )
    assert sizes["image"][0] == sizes["image"][1]
    assert sizes["fused"][0] == sizes["fused"][1]


def test_where_every_sentence_repeats_text_is_missing_and_text_alone_is_refused(
    checkpoint, tmp_path
):
    task = write_sayings(tmp_path, 16, lambda _: True)
    start, out = start_of(checkpoint), tmp_path / "report.json"
    report = fine_tune_task(start, task, config("drop"), out)
    assert set(report.representations) == {"image", "fused"}
    assert "too little is left to learn from" in report.missing["text"]
    alone = TaskConfig(**vars(config("drop")) | {"representations": ("text",)})
    with pytest.raises(ValueError, match=r"said: nothing to learn from: text: without equal"):
        fine_tune_task(start, task, alone, tmp_path / "alone.json")
    head = tmp_path / "head"
    with pytest.raises(ValueError, match=r"fused, which is not among the representations"):
        fine_tune_task(start, task, alone, out, keep=head)
    assert not head.exists()
