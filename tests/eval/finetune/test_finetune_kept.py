"""A kept head is that of the first split, which is trained once for the head and the report."""

import pytest

import eval.finetune.task as finetune_task
from eval.finetune import FineTuneConfig, TaskConfig, fine_tune_splits, fine_tune_task, start_of
from eval.release.head import load_head
from eval.splits import SplitConfig

CONFIG = TaskConfig(
    representations=("text", "fused", "image"),
    splits=SplitConfig(num_splits=2),
    finetune=FineTuneConfig(epochs=1, device="cpu"),
)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.fixture(scope="module")
def whole(checkpoint, few_topics, tmp_path_factory):
    """Report and head of a command that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    fine_tune_task(
        start_of(checkpoint), few_topics, CONFIG, folder / "report.json", keep=folder / "head"
    )
    return (folder / "report.json").read_bytes(), files_of(folder / "head")


def cut(*asked):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("stopped", "reported"), [("text", False), ("image", False), ("the head", True)]
)
def test_the_same_command_goes_on_after_a_stop_and_makes_the_head(
    checkpoint, few_topics, tmp_path, monkeypatch, whole, stopped, reported
):
    """Stopped before anything had finished, after ``fused``, and between report and head."""
    start, out, head = start_of(checkpoint), tmp_path / "report.json", tmp_path / "head"

    def until(backbone, inputs, problems, name, *rest):
        return (cut if name == stopped else fine_tune_splits)(
            backbone, inputs, problems, name, *rest
        )

    with monkeypatch.context() as patch:
        patch.setattr(finetune_task, "fine_tune_splits", until)
        if stopped == "the head":
            patch.setattr(finetune_task, "keep_tuned", cut)
        with pytest.raises(KeyboardInterrupt):
            fine_tune_task(start, few_topics, CONFIG, out, keep=head)
    assert out.exists() == reported
    assert not head.exists()
    fine_tune_task(start, few_topics, CONFIG, out, keep=head)
    assert (out.read_bytes(), files_of(head)) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head", "report.json"]


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
