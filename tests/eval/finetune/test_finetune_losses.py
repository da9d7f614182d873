"""Soft F1, class weights and the order of samples against independent values."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight

from eval.finetune.config import FineTuneConfig
from eval.finetune.losses import class_weights, epoch_rows, make_loss, soft_f1_loss


def test_soft_f1_is_macro_f1_with_probabilities_for_counts():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(12, 3)), generator.integers(0, 3, 12)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = []
    for place in range(3):
        hits = sum(chances[row, place] for row in range(12) if labels[row] == place)
        alarms = sum(chances[row, place] for row in range(12) if labels[row] != place)
        misses = sum(1.0 - chances[row, place] for row in range(12) if labels[row] == place)
        found.append(2 * hits / (2 * hits + alarms + misses))
    loss = soft_f1_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    assert float(loss) == pytest.approx(1.0 - np.mean(found), abs=1e-12)


def test_soft_f1_of_certain_predictions_is_scikit_learns_macro_f1():
    generator = np.random.default_rng(1)
    labels, predicted = generator.integers(0, 4, 40), generator.integers(0, 4, 40)
    loss = soft_f1_loss(torch.from_numpy(np.eye(4)[predicted] * 1e3), torch.from_numpy(labels))
    assert float(loss) == pytest.approx(1.0 - f1_score(labels, predicted, average="macro"))


def test_soft_f1_has_its_own_gradient_and_none_for_a_class_that_the_batch_lacks():
    labels = torch.tensor([0, 2, 2, 0, 3])
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda given: soft_f1_loss(given, labels), (logits,))
    perfect = torch.nn.functional.one_hot(labels, 4).double() * 100
    assert float(soft_f1_loss(perfect, labels)) == pytest.approx(0.0, abs=1e-9)


def test_class_weights_are_scikit_learns_balanced_ones():
    labels = np.array([0] * 7 + [1] * 2 + [2] * 11)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels, 3), expected)


def test_weights_in_the_loss_make_classes_count_alike():
    labels = torch.tensor([0] * 9 + [1])
    logits = torch.tensor([[0.0, 0.0]] * 9 + [[2.0, 0.0]])
    weights = torch.from_numpy(class_weights(labels.numpy(), 2)).float()
    loss = make_loss(FineTuneConfig().for_labels(numbers=False), weights)
    rare = float(np.log1p(np.exp(2.0)))
    assert float(loss(logits, labels)) == pytest.approx((np.log(2.0) + rare) / 2, rel=1e-5)


def test_an_epoch_is_every_row_once_in_an_order_of_its_own():
    rows = np.arange(100, 150)
    first, again, second = (epoch_rows(rows, None, key) for key in ((3, 0), (3, 0), (3, 1)))
    assert sorted(first.tolist()) == rows.tolist()
    assert first.tolist() == again.tolist() != second.tolist()


def test_a_weighted_draw_has_as_many_of_each_class():
    labels = np.array([0] * 900 + [1] * 100)
    drawn = epoch_rows(np.arange(1000), class_weights(labels, 2)[labels], (0, 0))
    assert len(drawn) == 1000
    assert 0.45 < labels[drawn].mean() < 0.55  # 3 standard deviations of a fair coin
