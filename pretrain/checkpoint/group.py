"""The ranks of torch's process group."""

from typing import TypeVar

import torch.distributed as dist

Value = TypeVar("Value")


class GroupRanks:
    """The ranks that joined (`engine.join_process_group`)."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.world_size = dist.get_world_size()

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, in the order of ranks. Collective."""
        values: list[Value] = [value] * self.world_size
        dist.all_gather_object(values, value)
        return values
