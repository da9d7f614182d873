"""Fine-tuning that was ended midway goes on after what had finished."""

from dataclasses import replace

import pytest

from eval.finetune import (
    FineTuneConfig,
    TaskConfig,
    fine_tune_splits,
    fine_tune_task,
    read_fine_tunes,
    start_of,
)
from eval.splits import SplitConfig

CONFIG = TaskConfig(
    representations=("text", "fused_text", "image"),
    splits=SplitConfig(num_splits=2),
    finetune=FineTuneConfig(epochs=1, device="cpu"),
)


class Power:
    """Fine-tunes until it is cut, and remembers what was asked of it."""

    def __init__(self, monkeypatch):
        self.trained, self.places, self.lasts_for = [], [], 99
        monkeypatch.setattr("eval.finetune.task.fine_tune_splits", self)

    def __call__(self, backbone, inputs, problems, name, config, workers):
        if len(self.trained) == self.lasts_for:
            raise KeyboardInterrupt
        self.trained.append(name)
        self.places.append((workers.num, workers.beside))
        return fine_tune_splits(backbone, inputs, problems, name, config)


@pytest.fixture
def power(monkeypatch):
    return Power(monkeypatch)


def cut_after(power, num, start, task, out):
    power.lasts_for = num
    with pytest.raises(KeyboardInterrupt):
        fine_tune_task(start, task, CONFIG, out)
    power.lasts_for = 99


def test_what_had_finished_is_not_trained_again_and_the_report_is_the_same(
    checkpoint, few_topics, tmp_path, power, caplog
):
    start, folder = start_of(checkpoint), tmp_path / "finetunes" / "step-00000020"
    whole = fine_tune_task(start, few_topics, CONFIG, tmp_path / "whole.json")
    assert power.trained == ["text", "fused_text", "image"]
    for num, left in ((1, ["fused_text", "image"]), (2, ["image"])):
        out = folder / f"after-{num}.json"
        power.trained.clear()
        cut_after(power, num, start, few_topics, out)
        assert not out.exists()
        assert read_fine_tunes(tmp_path) == []  # a partial report is none
        power.trained.clear()
        again = fine_tune_task(start, few_topics, CONFIG, out)
        assert power.trained == left
        assert "text was fine-tuned before" in caplog.text
        assert again.to_json() == whole.to_json()
        assert out.read_text() == (tmp_path / "whole.json").read_text()
        assert [path.name for path in folder.iterdir()] == [out.name]
        out.unlink()


def test_what_finished_under_another_question_is_trained_again(
    checkpoint, few_topics, tmp_path, power
):
    start, out = start_of(checkpoint), tmp_path / "report.json"
    cut_after(power, 1, start, few_topics, out)
    power.trained.clear()
    longer = replace(CONFIG, finetune=FineTuneConfig(epochs=2, device="cpu"))
    report = fine_tune_task(start, few_topics, longer, out)
    assert power.trained == ["text", "fused_text", "image"]
    assert [len(one) for one in report.representations["text"].curves] == [2, 2]


def test_workers_share_their_inputs_beside_the_report(checkpoint, few_topics, tmp_path, power):
    out = tmp_path / "report.json"
    config = replace(CONFIG, representations=("text",), workers=3)
    fine_tune_task(start_of(checkpoint), few_topics, config, out)
    assert power.places == [(3, out)]
