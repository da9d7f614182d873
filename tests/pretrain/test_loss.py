import pytest
import torch

from pretrain.loss import all_pairs_loss, byol_loss


def test_equal_directions_cost_nothing_and_opposite_ones_four():
    rows = torch.randn(8, 16)
    assert byol_loss(rows, 3.0 * rows).item() == pytest.approx(0.0, abs=1e-6)
    assert byol_loss(rows, -rows).item() == pytest.approx(4.0, abs=1e-6)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(Exception, match=r"prediction|projection|type"):
        byol_loss(torch.randn(8, 16), torch.randn(8, 1))


def test_all_pairs_equal_one_pair_at_a_time():
    predictions, projections = torch.randn(10, 2, 6, 8), torch.randn(10, 2, 6, 8)
    rows = torch.full((10, 6), 1 / 6)
    for pair, value in enumerate(all_pairs_loss(predictions, projections, rows)):
        expected = sum(
            byol_loss(predictions[pair, view], projections[pair, 1 - view]) for view in (0, 1)
        )
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_rows_of_weight_zero_get_no_gradient():
    predictions = torch.randn(1, 2, 4, 8, requires_grad=True)
    rows = torch.tensor([[0.5, 0.0, 0.5, 0.0]])
    all_pairs_loss(predictions, torch.randn(1, 2, 4, 8), rows).sum().backward()
    assert predictions.grad is not None
    assert predictions.grad[:, :, [1, 3]].abs().max() == 0.0
    assert predictions.grad[:, :, [0, 2]].abs().min() > 0.0
