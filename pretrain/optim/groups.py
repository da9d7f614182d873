"""Which parameters decay, which learn slowly, and which are several layers in one."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from pretrain.models.heads import GroupedLinear

TOWER_PREFIX = "backbone.encoders."


def parameter_groups(
    module: nn.Module, tower_scales: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Trainable parameters, those of one treatment together; frozen ones are in no group.

    Beside its ``params`` a group says what the schedules and `Lars` need to know:
    ``lr_scale`` (its share of the learning rate), ``decays`` (whether weight decay and layer-wise
    rates are for it: biases, gains and vectors have neither), ``stacked`` (whether each entry
    along its tensors' first axis is a layer of its own).

    Args:
        module: The online network.
        tower_scales: Modality -> share of the learning rate of its encoder
            (``backbone.encoders.<modality>``); 1 where it is not named.

    Raises:
        ValueError: a scale names no encoder of this module.
    """
    scales = dict(tower_scales or {})
    _refuse_unknown_towers(module, scales)
    stacked = set(_stacked_weights(module))
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and name.rpartition(".")[2] not in ("bias", "gain")
            key = (decays, _scale_of(name, scales), name in stacked)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr_scale": scale, "decays": decays, "stacked": is_stacked}
        for (decays, scale, is_stacked), parameters in groups.items()
    ]


def set_learning_rate(groups: Iterable[dict[str, Any]], value: float) -> None:
    """Give every parameter group its share of the learning rate."""
    for group in groups:
        group["lr"] = value * group["lr_scale"]


def set_weight_decay(groups: Iterable[dict[str, Any]], value: float) -> None:
    """Give the weight decay to the groups that decay, 0 to the others."""
    for group in groups:
        group["weight_decay"] = value if group["decays"] else 0.0


def weights_and_gradients(group: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Those parameters of a group that have a gradient, and their gradients."""
    pairs = [(p, p.grad) for p in group["params"] if p.grad is not None]
    return [weight for weight, _ in pairs], [gradient for _, gradient in pairs]


def _stacked_weights(module: nn.Module) -> Iterator[str]:
    for name, part in module.named_modules():
        if isinstance(part, GroupedLinear):
            yield f"{name}.weight".lstrip(".")


def _scale_of(name: str, scales: Mapping[str, float]) -> float:
    for tower, scale in scales.items():
        if name.startswith(f"{TOWER_PREFIX}{tower}."):
            return scale
    return 1.0


def _refuse_unknown_towers(module: nn.Module, scales: Mapping[str, float]) -> None:
    names = [name for name, _ in module.named_parameters()]
    for tower in scales:
        if not any(name.startswith(f"{TOWER_PREFIX}{tower}.") for name in names):
            raise ValueError(f"a learning rate is given for {tower!r}, which is no encoder here")
