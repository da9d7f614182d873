"""Options of fine-tuning that mean nothing are refused by name."""

import pytest

from eval.finetune import FineTuneConfig, TaskConfig
from eval.finetune.config import describe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_lr": 0.0}, "head_lr must be above 0"),
        ({"backbone_lr": -1.0}, "backbone_lr must be at least 0"),
        ({"backbone_lr": float("nan")}, "backbone_lr must be at least 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"modality_dropout": 1.0}, r"modality_dropout must be in \[0, 1\)"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive"),
        ({"optimizer": "nesterov", "momentum": 0.0}, "positive finetune.momentum"),
    ],
)
def test_a_senseless_option_is_refused_by_its_name(options, message):
    with pytest.raises(ValueError, match=message):
        FineTuneConfig(**options)


@pytest.mark.parametrize(
    ("options", "numbers", "message"),
    [
        ({"loss": "soft_f1"}, True, "loss soft_f1 is of no use here: the labels are numbers"),
        ({"loss": "l1"}, False, "loss l1 is of no use here: the labels are classes"),
        ({"balance": "sampler"}, True, "numbers have no classes"),
        ({"label_smoothing": 0.1}, True, "label_smoothing is for cross_entropy, not for l1"),
        ({"loss": "soft_f1", "balance": "loss"}, False, "weighs all classes alike already"),
        ({"loss": "soft_f1", "label_smoothing": 0.1}, False, "not for soft_f1"),
    ],
)
def test_an_option_that_the_labels_have_no_use_for_is_refused(options, numbers, message):
    with pytest.raises(ValueError, match=message):
        FineTuneConfig(**options).for_labels(numbers)


def test_modality_dropout_without_several_modalities_to_read_is_refused():
    config = FineTuneConfig(modality_dropout=0.3)
    for names in (("text",), ("image", "fused_text")):
        with pytest.raises(ValueError, match="modality_dropout is of no use here"):
            TaskConfig(representations=names, finetune=config)
    assert TaskConfig(representations=("text", "fused"), finetune=config).finetune == config


def test_a_report_of_before_there_was_modality_dropout_answers_the_same_question():
    """The keys are those that reports of then hold."""
    before = ["optimizer", "backbone_lr", "head_lr", "weight_decay", "warmup_fraction"]
    before += ["max_gradient_norm", "momentum", "dropout", "batch_size", "epochs", "balance"]
    before += ["loss", "label_smoothing"]
    assert list(describe(FineTuneConfig())) == before
    assert describe(FineTuneConfig(modality_dropout=0.3))["modality_dropout"] == 0.3
