"""A fine-tuned model kept as a head folder, which `eval.release.predict` reads."""

from pathlib import Path

import numpy as np

from eval.card import Task
from eval.finetune.tune import Tuned
from eval.metrics import Scores
from eval.release.head import FEATURES, Head, keep_head


def keep_tuned(out: Path, tuned: Tuned, task: Task, split: str) -> None:
    """Write the tuned backbone and its head: the folder appears whole or not at all.

    Args:
        out: Folder to create.
        tuned: Of the representation ``fused``, on classes.
        task: What it was fine-tuned on.
        split: In words, which one it was fine-tuned on.

    Raises:
        ValueError: ``out`` exists and is not empty.
        NoRoomError: The disk is full.
    """
    model, result = tuned.model.cpu(), tuned.result
    assert model.name == FEATURES
    assert isinstance(result.scores, Scores)
    weights = (model.mean, model.scale, model.head.weight, model.head.bias)
    mean, scale, weight, bias = (np.array(one.detach().double().numpy()) for one in weights)
    head = Head(
        backbone=model.backbone,
        classes=task.card.classes,
        mean=mean,
        scale=scale,
        weight=weight,
        bias=bias,
        learned=tuned.learned,
    )
    keep_head(
        out,
        head,
        {
            "task": task.name,
            "task_digest": task.shards.digest,
            "task_licence": task.card.licence,
            "split": split,
            "fine_tuned_epochs": result.epoch,
            "validation_macro_f1": result.validation_macro_f1,
            "test_macro_f1": result.scores.macro_f1,
        },
    )
