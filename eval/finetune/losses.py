"""What fine-tuning minimises, and what it shows: order, weights of classes, modalities left out."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from eval.finetune.config import FineTuneConfig

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs of the head [batch, output] and targets [batch] -> one number."""


def soft_f1_loss(
    logits: Float[Tensor, "batch class"], labels: Int64[Tensor, "batch"]
) -> Float[Tensor, ""]:
    """1 minus macro F1 with probabilities in place of counts, in [0, 1].

    Of class c, with p the probabilities and y the labels: ``F1 = 2 sum(p y) / (sum(p) + sum(y))``.
    The mean is over the classes that the batch holds: another one has an F1 of 0 whatever is
    predicted, and no gradient.

    Source: Bénédict et al. 2022, "sigmoidF1: A Smooth F1 Score Surrogate Loss for Multilabel
    Classification", arXiv 2108.10566, section 4, with a softmax in place of their sigmoid, because
    the classes exclude each other.
    """
    chances = logits.softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).to(chances.dtype)
    held = truth.sum(0)  # [class]
    f1 = 2.0 * (chances * truth).sum(0) / (chances.sum(0) + held)
    return 1.0 - f1[held > 0].mean()


def class_weights(labels: Int64[np.ndarray, "row"], num_classes: int) -> Float[np.ndarray, "class"]:
    """``n / (classes * n_c)``: the inverse of each class's frequency; 1 where all are alike.

    Every class must have a row.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return len(labels) / (num_classes * counts.astype(np.float64))


def make_loss(config: FineTuneConfig, weights: Float[Tensor, "class"] | None) -> Loss:
    """The loss that a configuration names.

    Args:
        config: From `FineTuneConfig.for_labels`.
        weights: Of each class, where the loss balances them.
    """
    if config.loss == "soft_f1":
        return soft_f1_loss
    if config.loss == "l1":
        return lambda outputs, targets: F.l1_loss(outputs[:, 0], targets)
    smoothing = config.label_smoothing
    return lambda outputs, targets: F.cross_entropy(
        outputs, targets, weight=weights, label_smoothing=smoothing
    )


def epoch_rows(
    rows: Int64[np.ndarray, "row"],
    weights: Float[np.ndarray, "row"] | None,
    key: tuple[int, int],
) -> Int64[np.ndarray, "row"]:
    """The rows in the random order of one epoch; drawn with replacement where they have weights.

    Args:
        rows: The training part.
        weights: Relative chance of each row to be drawn.
        key: Seed and epoch.
    """
    generator = np.random.default_rng(key)
    if weights is None:
        return generator.permutation(rows)
    return generator.choice(rows, len(rows), p=weights / weights.sum())


def drop_modalities(available: Bool[Tensor, "row 3"], chance: float) -> Bool[Tensor, "row 3"]:
    """What is left of the modalities that samples have: of each sample at least one.

    Each is left out with this chance; a sample that would lose all keeps one of its own, drawn
    evenly. With a chance of 0 nothing is drawn.
    """
    if chance == 0.0:
        return available
    left = available & (torch.rand(available.shape) >= chance)
    order = torch.rand(available.shape).masked_fill(~available, -1.0)
    spared = F.one_hot(order.argmax(1), available.shape[1]).bool()
    return torch.where(left.any(1, keepdim=True), left, spared & available)


def to_targets(
    labels: np.ndarray, scale: tuple[float, float], device: torch.device
) -> Int64[Tensor, "row"] | Float[Tensor, "row"]:
    """Labels as the loss takes them; numbers less the first of ``scale``, over the second."""
    if np.issubdtype(labels.dtype, np.integer):
        return torch.from_numpy(labels).to(device)
    return torch.from_numpy((labels - scale[0]) / scale[1]).float().to(device)
