import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pretrain.loss import all_pairs_loss, weighted_loss
from pretrain.models import GroupedMlpHead, HeadConfig


def reference(predictions, projections, row_weights):
    """Grill et al. 2020, equation 2, pair by pair, view by view, row by row."""
    losses = []
    for q, z, weights in zip(predictions, projections, row_weights, strict=True):
        loss = torch.zeros((), dtype=predictions.dtype)
        for view in (0, 1):
            for row, weight in enumerate(weights):
                p, t = q[view, row], z[1 - view, row]
                p, t = p / math.sqrt(float(p @ p)), t / math.sqrt(float(t @ t))
                loss = loss + weight * ((p - t) ** 2).sum()
        losses.append(loss)
    return torch.stack(losses)


def reference_gradient(predictions, projections, row_weights):
    """d/dp of |p/|p| - t|^2 is -2 (t - <t, u> u) / |p|, with u = p/|p| and t of unit length."""
    gradient = torch.zeros_like(predictions)
    for pair, view, row in torch.cartesian_prod(*map(torch.arange, predictions.shape[:3])).tolist():
        p, t = predictions[pair, view, row], projections[pair, 1 - view, row]
        length = math.sqrt(float(p @ p))
        u, t = p / length, t / math.sqrt(float(t @ t))
        step = -2.0 * (t - (t @ u) * u) / length
        gradient[pair, view, row] = row_weights[pair, row] * step
    return gradient


def some_rows(pairs=10, batch=5, embed=6):
    torch.manual_seed(0)
    shape = (pairs, 2, batch, embed)
    weights = torch.rand(pairs, batch, dtype=torch.float64)
    weights[:, 1] = 0.0
    rows = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    return *rows, weights


def test_equal_directions_cost_nothing_and_opposite_ones_four_in_each_direction():
    rows = torch.randn(1, 2, 8, 16)
    mean = torch.full((1, 8), 1 / 8)
    assert all_pairs_loss(rows, 3.0 * rows.flip(1), mean).item() == pytest.approx(0.0, abs=1e-5)
    assert all_pairs_loss(rows, -rows.flip(1), mean).item() == pytest.approx(8.0, abs=1e-5)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(Exception, match=r"projections|type"):
        all_pairs_loss(torch.randn(1, 2, 8, 16), torch.randn(1, 2, 8, 1), torch.ones(1, 8))


def test_loss_and_gradient_equal_the_equations_row_by_row():
    predictions, projections, weights = some_rows()
    predictions.requires_grad_()
    losses = all_pairs_loss(predictions, projections, weights)
    torch.testing.assert_close(losses, reference(predictions.detach(), projections, weights))
    losses.sum().backward()
    expected = reference_gradient(predictions.detach(), projections, weights)
    torch.testing.assert_close(predictions.grad, expected)


def test_the_gradient_passes_a_numerical_check():
    predictions, projections, weights = some_rows(pairs=2, batch=3, embed=4)
    assert torch.autograd.gradcheck(
        lambda rows: all_pairs_loss(rows, projections, weights), predictions.requires_grad_()
    )


def test_the_gradient_of_the_weighted_sum_passes_a_numerical_check():
    predictions, projections, weights = some_rows(pairs=2, batch=3, embed=4)
    pair_weights = torch.tensor([0.3, 1.7], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda rows: weighted_loss(rows, projections, weights, pair_weights)[0],
        predictions.requires_grad_(),
    )


def test_the_weighted_sum_is_that_of_the_pairs_which_have_no_gradient():
    predictions, projections, weights = some_rows()
    pair_weights = torch.rand(10, dtype=torch.float64)
    predictions.requires_grad_()
    total, by_pair = weighted_loss(predictions, projections, weights, pair_weights)
    expected = all_pairs_loss(predictions, projections, weights).detach()
    torch.testing.assert_close(by_pair, expected)
    torch.testing.assert_close(total.detach(), (expected * pair_weights).sum())
    assert not by_pair.requires_grad


def test_a_prediction_of_zeros_has_a_finite_gradient():
    predictions = torch.zeros(1, 2, 3, 4, requires_grad=True)
    all_pairs_loss(predictions, torch.randn(1, 2, 3, 4), torch.ones(1, 3)).sum().backward()
    assert torch.isfinite(predictions.grad).all()


def test_rows_of_weight_zero_get_no_gradient():
    predictions = torch.randn(1, 2, 4, 8, requires_grad=True)
    rows = torch.tensor([[0.5, 0.0, 0.5, 0.0]])
    all_pairs_loss(predictions, torch.randn(1, 2, 4, 8), rows).sum().backward()
    assert predictions.grad is not None
    assert predictions.grad[:, :, [1, 3]].abs().max() == 0.0
    assert predictions.grad[:, :, [0, 2]].abs().min() > 0.0


class CountOperators(TorchDispatchMode):
    """Operators that compute; views of the same memory are free."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if not operator.is_view:
            self.names.append(str(operator))
        return operator(*args, **(kwargs or {}))


def test_ten_predictors_and_the_loss_of_all_pairs_take_under_sixty_operators():
    head = GroupedMlpHead(10, 8, HeadConfig(hidden_size=16, embed_dim=8))
    online = torch.randn(10, 2, 6, 8, requires_grad=True)
    target, row_weights = torch.randn(10, 2, 6, 8), torch.ones(10, 6)
    with CountOperators() as count:
        all_pairs_loss(head(online), target, row_weights).sum().backward()
    assert len(count.names) < 60, count.names
    assert online.grad is not None
