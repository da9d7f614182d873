import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pretrain.models import Cohorts, GroupedMlpHead, HeadConfig, SourceHeads
from pretrain.models.standardize import Standardize

CUTS = [(12, 12), (4, 12), (6, 12)]
"""Samples of a cohort, rows of a call."""


def some_rows(heads=3, batch=12, dim=5, dtype=torch.float32):
    torch.manual_seed(0)
    return (3.0 * torch.randn(heads, 2, batch, dim, dtype=torch.float64) + 1.0).to(dtype)


def torchs_batch_norm(rows, samples):
    """Head by head, view by view, cohort by cohort."""
    return torch.stack(
        [
            torch.stack([torch.cat([one(part) for part in view.split(samples)]) for view in head])
            for head in rows
        ]
    )


def one(rows):
    return F.batch_norm(rows, None, None, training=True)


def norm_of(samples, batch):
    return Standardize("batch", Cohorts(samples=samples, micro_samples=batch))


@pytest.mark.parametrize(("samples", "batch"), CUTS)
@pytest.mark.parametrize("counted", [None, torch.ones(3, 12)])
def test_every_cohort_equals_torchs_batch_norm_with_its_gradient(samples, batch, counted):
    rows, slope = some_rows().requires_grad_(), some_rows(dtype=torch.float64)
    exact = some_rows().double().requires_grad_()
    normed, expected = norm_of(samples, batch)(rows, counted), torchs_batch_norm(exact, samples)
    torch.testing.assert_close(normed.double(), expected, rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(normed, rows, slope.float())
    (exact_gradient,) = torch.autograd.grad(expected, exact, slope)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-6, atol=2e-6)


def test_the_gradient_is_that_of_the_function():
    rows = some_rows(heads=2, batch=6, dim=3, dtype=torch.float64).requires_grad_()
    counted = torch.tensor([[1.0, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 1]])
    for samples in (6, 3):
        norm = norm_of(samples, 6)
        assert torch.autograd.gradcheck(lambda given, norm=norm: norm(given, counted), rows)


def test_rows_that_do_not_count_change_nothing_and_get_no_gradient():
    rows = some_rows().requires_grad_()
    counted = (torch.arange(12) % 3 != 1).float().expand(3, -1)
    normed = norm_of(6, 12)(rows, counted)
    here = counted[0].bool()
    torch.testing.assert_close(normed[:, :, here], torchs_batch_norm(rows[:, :, here], 4))
    assert normed[:, :, ~here].abs().max() == 0.0
    (gradient,) = torch.autograd.grad(normed.square().sum() + normed.sum(), rows)
    assert gradient[:, :, ~here].abs().max() == 0.0


def test_a_cohort_with_one_row_or_none_stays_finite():
    rows = some_rows(heads=2).requires_grad_()
    counted = torch.zeros(2, 12)
    counted[0, 5] = 1.0
    normed = norm_of(6, 12)(rows, counted)
    (gradient,) = torch.autograd.grad(normed.sum(), rows)
    assert normed.abs().max() == 0.0
    assert gradient.abs().max() == 0.0


def test_statistics_are_float32_where_the_rows_are_bfloat16():
    rows = (some_rows(batch=64) + 20.0).bfloat16()
    for counted in (None, torch.ones(3, 64)):
        normed = Standardize("batch")(rows, counted)
        assert normed.dtype == torch.bfloat16
        expected = torchs_batch_norm(rows.double(), 64)
        torch.testing.assert_close(normed.double(), expected, rtol=2**-8, atol=1e-4)


def test_rows_far_from_zero_keep_their_variance():
    """The mean of squares minus the square of the mean would be off by a tenth here."""
    rows = some_rows() + 3000.0
    normed = norm_of(4, 12)(rows, torch.ones(3, 12))
    expected = torchs_batch_norm(rows.double(), 4)
    torch.testing.assert_close(normed.double(), expected, rtol=0.0, atol=1e-3)


@given(samples=st.integers(2, 24), micro=st.integers(1, 24), turns=st.integers(1, 4))
def test_every_row_is_in_the_cohort_of_its_place_in_the_global_batch(samples, micro, turns):
    num_ranks = samples * turns  # so many micro-batches hold whole cohorts, whatever their size
    for rank in range(num_ranks):
        cohorts = Cohorts(samples=samples, micro_samples=micro, rank=rank)
        assert micro % cohorts.block_samples == 0
        blocks = range(*cohorts.own_blocks.indices(10**9))
        first = rank * micro
        island = first - blocks.start * cohorts.block_samples
        assert island % samples == 0
        for row in range(micro):
            cohort = blocks[row // cohorts.block_samples] // cohorts.blocks_per_cohort
            assert island // samples + cohort == (first + row) // samples


def test_other_rows_than_a_micro_batch_are_a_cohort_of_their_own():
    rows = some_rows()
    cohorts = Cohorts(samples=4, micro_samples=8)
    torch.testing.assert_close(Standardize("batch", cohorts)(rows), torchs_batch_norm(rows, 12))


@pytest.mark.parametrize(
    ("global_samples", "cohort"), [(1024, 64), (64, 64), (128, 64), (16, 16), (96, 48), (134, 67)]
)
def test_a_cohort_is_the_divisor_of_the_global_batch_nearest_to_64(global_samples, cohort):
    assert HeadConfig().cohort_samples(global_samples) == cohort
    assert HeadConfig(norm_samples=2).cohort_samples(global_samples) == 2


def test_a_cohort_of_one_is_refused():
    with pytest.raises(ValueError, match=r"heads\.norm_samples must be 2 or more, got 1"):
        HeadConfig(norm_samples=1)


def test_a_grouped_head_equals_its_heads_one_by_one():
    config = HeadConfig(hidden_size=16, embed_dim=4)
    together = GroupedMlpHead(3, 8, config)
    rows = torch.randn(3, 2, 12, 8)
    both = together(rows)
    for head in range(3):
        for view in (0, 1):
            hidden = F.linear(rows[head, view], together.expand.weight[head].T)
            hidden = one(hidden + together.expand.bias[head]).relu()
            alone = F.linear(hidden, together.contract.weight[head].T)
            alone = alone + together.contract.bias[head]
            torch.testing.assert_close(both[head, view], alone, rtol=1e-4, atol=1e-5)


def test_heads_of_several_sources_keep_sources_and_views_apart():
    heads = SourceHeads({"text": 8, "audio": 3}, HeadConfig(hidden_size=16, embed_dim=4))
    features = {"text": torch.randn(2, 32, 8), "audio": torch.randn(2, 32, 3)}
    before = heads(features)
    features["audio"] = features["audio"] + torch.randn(2, 32, 3)
    features["text"][1] *= 7.0
    after = heads(features)
    assert torch.equal(after["text"][0], before["text"][0])
    assert not torch.allclose(after["text"][1], before["text"][1])
    assert not torch.allclose(after["audio"], before["audio"])
