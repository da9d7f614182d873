"""Where DeepSpeed 0.19 keeps the float32 masters at each ZeRO stage, and its way back to weights.

=====  =========  ==========================================================================
stage  precision  masters, and the tensors that the optimizer steps
=====  =========  ==========================================================================
0      fp32       the module's parameters
0      bf16       a float32 copy of each parameter, on every rank
1, 2   both       a group's parameters flattened one after another and cut into as many equal
                  partitions as there are ranks, each rank has one
3      both       each parameter flattened and cut into equal partitions, a rank's partitions
                  of a group one after another; the last may end in padding
=====  =========  ==========================================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from pretrain.engine.settings import EngineSettings
from pretrain.fragments import Fragment

# `Any` stands for DeepSpeed's optimizer wrappers, which have no common type.


@dataclass(frozen=True)
class Master:
    """A stretch of a parameter's float32 master.

    Attributes:
        fragment: The stretch.
        stepped: The tensor that the optimizer steps and keeps moments of.
        offset: Where the stretch begins in it, flattened.
    """

    fragment: Fragment
    stepped: Tensor
    offset: int

    def stretch_of(self, moment: Tensor) -> Fragment:
        """The same stretch of a moment, which has the shape of `stepped`."""
        return _fragment(self.fragment.name, self.fragment.start, moment, self.offset, self.numel)

    @property
    def numel(self) -> int:
        """Number of entries."""
        return self.fragment.value.numel()


def find_masters(
    wrapper: Any,  # noqa: ANN401
    trained: Mapping[str, nn.Parameter],
    settings: EngineSettings,
) -> list[Master]:
    """This rank's masters of the trained parameters, in the order of their names.

    Args:
        wrapper: DeepSpeed's optimizer.
        trained: By name.
        settings: What the engine was made with.
    """
    if settings.zero_stage == 3:
        return _partitions_of_each(wrapper, trained)
    if settings.zero_stage > 0:
        return _partitions_of_groups(wrapper, trained)
    return [
        _master(name, 0, master, 0, master.numel())
        for name, master in _unpartitioned(wrapper, trained, settings).items()
    ]


def show_masters(
    wrapper: Any,  # noqa: ANN401
    settings: EngineSettings,
) -> None:
    """Make the working weights those of the masters, as at the end of a step. Collective."""
    if settings.zero_stage == 3:
        wrapper._partition_all_parameters()
        for group in range(len(wrapper.fp16_groups)):
            wrapper._reassign_or_swap_out_partitioned_parameters(group)
        if wrapper.persistent_parameters:
            wrapper.persistent_parameters[0].all_gather(wrapper.persistent_parameters)
    elif settings.zero_stage > 0:
        wrapper.update_lp_params()
    elif not settings.bare:
        for working, master in _working_and_master(wrapper):
            working.data.copy_(master.data)


def set_frozen(parameter: nn.Parameter, value: Tensor) -> None:
    """Write a weight that is not trained, partitioned or not."""
    partition: Tensor | None = getattr(parameter, "ds_tensor", None)
    if partition is not None:
        start = dist.get_rank() * partition.numel()
        own = value.flatten()[start : start + partition.numel()]
        partition.data[: own.numel()].copy_(own)
    if parameter.shape == value.shape:  # at stage 3 it has none while the ranks share it out
        parameter.data.copy_(value)


def _unpartitioned(
    wrapper: Any,  # noqa: ANN401
    trained: Mapping[str, nn.Parameter],
    settings: EngineSettings,
) -> Mapping[str, Tensor]:
    if settings.bare:
        return trained
    masters = {id(working): master for working, master in _working_and_master(wrapper)}
    return {name: masters[id(working)] for name, working in trained.items()}


def _working_and_master(wrapper: Any) -> list[tuple[Tensor, Tensor]]:  # noqa: ANN401
    groups = zip(wrapper.fp16_groups, wrapper.fp32_groups, strict=True)
    return [pair for group in groups for pair in zip(*group, strict=True)]


def _partitions_of_groups(
    wrapper: Any,  # noqa: ANN401
    trained: Mapping[str, Any],
) -> list[Master]:
    found = []
    for name, parameter in trained.items():
        mapping = parameter._hp_mapping
        if mapping is not None:  # else this rank has no part of it
            flat = wrapper.single_partition_of_fp32_groups[mapping.param_group_index]
            here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
            found.append(_master(name, here.start, flat, there.start, there.numel))
    return found


def _partitions_of_each(
    wrapper: Any,  # noqa: ANN401
    trained: Mapping[str, Any],
) -> list[Master]:
    found = []
    for name, parameter in trained.items():
        group, offset, size = wrapper.grad_position[wrapper.get_param_id(parameter)]
        start = dist.get_rank() * size
        numel = min(size, parameter.ds_numel - start)  # without padding
        if numel > 0:
            flat = wrapper.fp32_partitioned_groups_flat[group]
            found.append(_master(name, start, flat, offset, numel))
    return found


def _master(name: str, start: int, stepped: Tensor, offset: int, numel: int) -> Master:
    return Master(_fragment(name, start, stepped, offset, numel), stepped, offset)


def _fragment(name: str, start: int, flat: Tensor, offset: int, numel: int) -> Fragment:
    return Fragment(name, start, flat.detach().view(-1)[offset : offset + numel])
