"""Batch statistics over four real gloo ranks, against the same rows in one process."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pretrain.models.cohorts import Cohorts, Neighbours
from pretrain.models.heads import GroupedMlpHead, HeadConfig, SourceHeads
from pretrain.models.standardize import Standardize

RANKS, MICRO = 4, 6
TOGETHER = RANKS * MICRO
COHORTS = [24, 12, 8, 6]
"""Over all ranks, over two of them, over rows of two ranks that are not cut alike, over one."""
CONFIG = HeadConfig(hidden_size=16, embed_dim=4)


class CountedNeighbours(Neighbours):
    """Tells how often its ranks were asked."""

    exchanges = 0

    def gather(self, blocks):
        self.exchanges += 1
        return super().gather(blocks)


def some_rows(dtype, dim=5, heads=3):
    torch.manual_seed(dim)
    rows = 3.0 * torch.randn(heads, 2, TOGETHER, dim, dtype=torch.float64) + 1.0
    counted = torch.rand(heads, TOGETHER) < 0.8
    counted[:, :MICRO] = False  # the first rank has no row that counts
    return rows.to(dtype), counted.float()


def own_rows(rank):
    return slice(rank * MICRO, (rank + 1) * MICRO)


def whole(samples):
    return Cohorts(samples=samples, micro_samples=TOGETHER)


def check_rows(cohorts, rank, dtype, tolerance):
    """Outputs and gradients of this rank's rows are those of one process."""
    own = own_rows(rank)
    rows, counted = some_rows(dtype)
    slope = some_rows(dtype)[0].flip(0)
    for weights in (counted, None):
        here, all_rows = rows[:, :, own].clone().requires_grad_(), rows.clone().requires_grad_()
        normed = Standardize("batch", cohorts)(here, None if weights is None else weights[:, own])
        expected = Standardize("batch", whole(cohorts.samples))(all_rows, weights)
        assert normed.dtype == dtype
        torch.testing.assert_close(normed, expected[:, :, own], rtol=tolerance, atol=tolerance)
        (gradient,) = torch.autograd.grad(normed, here, slope[:, :, own])
        (exact,) = torch.autograd.grad(expected, all_rows, slope)
        limit = tolerance * exact.abs().max().item()
        torch.testing.assert_close(gradient, exact[:, :, own], rtol=tolerance, atol=limit)


def check_weights(cohorts, rank):
    """Gradients of the heads' weights, summed over ranks, are those of one process."""
    own = own_rows(rank)
    features = {str(dim): some_rows(torch.float64, dim, heads=1)[0][0] for dim in (8, 3)}
    counted = some_rows(torch.float64, heads=2)[1]
    torch.manual_seed(1)
    ours = SourceHeads({"8": 8, "3": 3}, CONFIG, cohorts).double()
    theirs = SourceHeads({"8": 8, "3": 3}, CONFIG, whole(cohorts.samples)).double()
    theirs.load_state_dict(ours.state_dict())
    parts = ours({name: rows[:, own] for name, rows in features.items()}, counted[:, own])
    sum(part.square().sum() for part in parts.values()).backward()
    sum(part.square().sum() for part in theirs(features, counted).values()).backward()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        dist.all_reduce(one.grad)
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9, msg=name)


def check_exchanges(rank):
    """One forward and one backward for all sources; none for rows that are no micro-batch."""
    neighbours = CountedNeighbours(RANKS)
    cohorts = Cohorts(samples=24, micro_samples=MICRO, rank=rank, neighbours=neighbours)
    heads = SourceHeads({"a": 5, "b": 5, "c": 5}, CONFIG, cohorts)
    outputs = heads({name: torch.randn(2, MICRO, 5) for name in "abc"})
    assert neighbours.exchanges == 1
    sum(rows.sum() for rows in outputs.values()).backward()
    assert neighbours.exchanges == 2
    if rank == 1:
        few = GroupedMlpHead(3, 5, CONFIG, cohorts)(torch.randn(3, 2, MICRO - 1, 5))
        few.sum().backward()
    assert neighbours.exchanges == 2


def run_rank(rank, rendezvous):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=RANKS)
    for samples in COHORTS:
        cohorts = Cohorts.over_ranks(samples, MICRO)
        assert (cohorts.neighbours is None) == (samples == MICRO)
        check_rows(cohorts, rank, torch.float64, 1e-12)
        check_rows(cohorts, rank, torch.float32, 1e-6)
        check_rows(cohorts, rank, torch.bfloat16, 2**-7)
        check_weights(cohorts, rank)
    check_exchanges(rank)
    dist.destroy_process_group()


def run_ranks(_, rendezvous):
    """Forked from one process that has imported all, which takes longer than the checks."""
    mp.start_processes(run_rank, (rendezvous,), nprocs=RANKS, start_method="fork")


def test_four_ranks_have_the_statistics_and_gradients_of_one(tmp_path):
    group = mp.spawn(run_ranks, (tmp_path / "rendezvous",), nprocs=1, join=False)
    for _ in range(120):
        if group.join(timeout=1.0):
            return
    for process in group.processes:
        process.kill()
    pytest.fail("four ranks did not end within two minutes")
