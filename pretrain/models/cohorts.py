"""Which samples share batch statistics, and which ranks hold their rows: arithmetic and exchange.

In one forward pass rank r of W holds rows ``[r m, (r + 1) m)`` of W m consecutive samples of the
global batch. A cohort is a fixed number of them, wherever the cut between two ranks falls, so the
statistics are the same for every number of ranks and of accumulation steps.
"""

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor


class Neighbours:
    """Consecutive ranks that hold whole cohorts between them. Making one is collective."""

    def __init__(self, num_ranks: int) -> None:
        self._num_ranks = num_ranks
        # One communicator less, and one order of all exchanges, where every rank is a neighbour.
        whole = num_ranks == dist.get_world_size()
        self._group = None if whole else dist.new_subgroups(num_ranks)[0]

    def __deepcopy__(self, memo: object) -> "Neighbours":
        return self

    def gather(
        self, blocks: Float[Tensor, "head view block 1 _"]
    ) -> Float[Tensor, "head view all_blocks 1 _"]:
        """The blocks of all neighbours, in the order of the ranks. Collective among them."""
        own = blocks.contiguous()
        parts = [torch.empty_like(own) for _ in range(self._num_ranks)]
        dist.all_gather(parts, own, group=self._group)
        return torch.cat(parts, dim=2)


@dataclass(frozen=True, kw_only=True)
class Cohorts:
    """How the rows of one rank's micro-batch fall into cohorts.

    Its rows are cut into blocks, each of which lies whole in one cohort. A cohort is some
    consecutive blocks, of one rank or of several.

    Attributes:
        samples: In a cohort.
        micro_samples: Rows of one rank in a forward pass.
        rank: Of this process.
        neighbours: The ranks to ask; None where every cohort lies in one rank's rows.
    """

    samples: int
    micro_samples: int
    rank: int = 0
    neighbours: Neighbours | None = None

    @classmethod
    def over_ranks(cls, samples: int, micro_samples: int) -> "Cohorts":
        """Those of a run. Collective: ranks that share a cohort are introduced to each other."""
        assert micro_samples * dist.get_world_size() % samples == 0, (samples, micro_samples)
        num_ranks = math.lcm(samples, micro_samples) // micro_samples
        return cls(
            samples=samples,
            micro_samples=micro_samples,
            rank=dist.get_rank(),
            neighbours=Neighbours(num_ranks) if num_ranks > 1 else None,
        )

    @property
    def block_samples(self) -> int:
        """Rows of a block."""
        return math.gcd(self.samples, self.micro_samples)

    @property
    def blocks_per_cohort(self) -> int:
        """Blocks that a cohort consists of."""
        return self.samples // self.block_samples

    @property
    def own_blocks(self) -> slice:
        """This rank's among the blocks of all neighbours."""
        num_ranks = math.lcm(self.samples, self.micro_samples) // self.micro_samples
        num_blocks = self.micro_samples // self.block_samples
        first = self.rank % num_ranks * num_blocks
        return slice(first, first + num_blocks)

    def split(
        self, rows: Float[Tensor, "head view batch dim"]
    ) -> Float[Tensor, "head view block row dim"]:
        """Rows cut into blocks."""
        return rows.unflatten(2, (-1, self.block_samples))

    def by_cohort(
        self, blocks: Float[Tensor, "head view block 1 dim"]
    ) -> Float[Tensor, "head view cohort part dim"]:
        """What each block of each cohort has to say, those of the neighbours too. Collective."""
        everyone = self.neighbours.gather(blocks) if self.neighbours else blocks
        return everyone.unflatten(2, (-1, self.blocks_per_cohort)).squeeze(4)

    def for_own_blocks(
        self, cohorts: Float[Tensor, "head view cohort 1 dim"]
    ) -> Float[Tensor, "head view block 1 dim"]:
        """What is known of each cohort, for each block of this rank."""
        parts = cohorts.expand(-1, -1, -1, self.blocks_per_cohort, -1).flatten(2, 3)
        return parts[:, :, self.own_blocks].unsqueeze(3)
