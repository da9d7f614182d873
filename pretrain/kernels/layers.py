"""What LARS and the EMA after it work on: layers' tensors, and the numbers of a step."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor

from pretrain.kernels.numbers import ema_numbers


@dataclass(frozen=True, kw_only=True)
class LarsEma:
    """The numbers of one step."""

    changing: Float[Tensor, "3"]
    """`lars_numbers`, of the parameters' dtype and where they live."""
    momentum: float
    """Share of the old velocity kept, in [0, 1)."""
    trust_coefficient: float | None = None
    """A layer's step is about this share of its weights; None: all layers have the same rate."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"lars: momentum must be in [0, 1), got {self.momentum}")


def lars_numbers(
    learning_rate: float, weight_decay: float = 0.0, tau: float = 1.0
) -> tuple[float, float, float]:
    """What of `LarsEma` changes from step to step, as the kernel reads it.

    Args:
        learning_rate: Of all layers, before the share of each.
        weight_decay: Added to the gradient, as a share of the weight.
        tau: Share of the old target kept.

    Raises:
        ValueError: tau is outside [0, 1].
    """
    return (learning_rate, weight_decay, *ema_numbers(tau))


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What is stepped: each tensor is one layer. All but the first three may be missing.

    Raises:
        ValueError: tensors do not match in number and shape, those of a kind have several dtypes,
            or a copy of a missing target is asked for.
    """

    parameters: Sequence[Tensor]
    """Masters; the velocities and targets have their dtype."""
    gradients: Sequence[Tensor]
    velocities: Sequence[Tensor]
    targets: Sequence[Tensor] | None = None
    parameter_copies: Sequence[Tensor] | None = None
    """Overwritten with the parameters in their own dtype."""
    target_copies: Sequence[Tensor] | None = None

    def __post_init__(self) -> None:
        shapes = [tensor.shape for tensor in self.parameters]
        dtypes: dict[str, str] = {}
        for field in fields(self):
            tensors: Sequence[Tensor] | None = getattr(self, field.name)
            if tensors is None:
                continue
            if [tensor.shape for tensor in tensors] != shapes:
                raise ValueError(
                    f"lars: {field.name} do not match the parameters in number and shape"
                )
            found = {str(tensor.dtype) for tensor in tensors}
            if len(found) > 1:
                raise ValueError(f"lars: {field.name} have several dtypes: {', '.join(found)}")
            dtypes[field.name] = "".join(found)
        for name in ("velocities", "targets"):
            if dtypes.get(name, dtypes["parameters"]) != dtypes["parameters"]:
                raise ValueError(
                    f"lars: {name} are {dtypes[name]}, the parameters {dtypes['parameters']}"
                )
        if self.target_copies is not None and self.targets is None:
            raise ValueError("lars: target_copies without targets")
