"""A kept head is that of the first split, which is trained once for the head and the report."""

import eval.finetune.task as finetune_task
from eval.finetune import FineTuneConfig, TaskConfig, fine_tune_splits, fine_tune_task, start_of
from eval.release.head import load_head
from eval.splits import SplitConfig


def test_the_report_is_the_same_whether_a_head_is_kept_or_not(
    checkpoint, few_topics, tmp_path, monkeypatch
):
    config = TaskConfig(
        representations=("text", "fused"),
        splits=SplitConfig(num_splits=2),
        finetune=FineTuneConfig(epochs=1, device="cpu"),
    )
    trained = []

    def noted(backbone, inputs, problems, name, *rest):
        trained.append((name, list(problems)))
        return fine_tune_splits(backbone, inputs, problems, name, *rest)

    monkeypatch.setattr(finetune_task, "fine_tune_splits", noted)
    start, plain, kept = start_of(checkpoint), tmp_path / "plain.json", tmp_path / "kept.json"
    fine_tune_task(start, few_topics, config, plain)
    fine_tune_task(start, few_topics, config, kept, keep=tmp_path / "head")
    assert trained == [
        ("text", [0, 1]),
        ("fused", [0, 1]),
        ("text", [0, 1]),
        ("fused", [1]),  # the first was trained for the head
    ]
    assert kept.read_bytes() == plain.read_bytes()
    assert load_head(tmp_path / "head").classes == few_topics.card.classes
