"""How far weights moved: the online network's update, the target's, and the gap between them.

Norms are estimated from a fixed sample of each tensor's elements, so that a look costs little
memory beside a large model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from pretrain.health.towers import TOWERS, tower_of

SAMPLED_ELEMENTS = 8192
"""About how many elements of a tensor are looked at."""

FLOAT32_EPS = 2.0**-24
RESOLVED = 64.0
"""An expected update below so many float32 roundings of the weights says nothing of the target:
late in a run tau is nearly 1, and rounding is all there is."""


@dataclass(frozen=True)
class Sampled:
    """Elements of a tensor, and how many each stands for."""

    values: Float64[Tensor, " element"]
    share: float


WeightSample = Mapping[str, Sampled]
"""Parameter name -> its sampled elements."""


def sample_weights(weights: Iterable[tuple[str, Tensor]]) -> dict[str, Sampled]:
    """A copy of a fixed sample of every tensor, in float64."""
    sampled = {}
    for name, tensor in weights:
        flat = tensor.detach().flatten()
        # An odd stride does not stay in one column of a matrix whose width is a power of two.
        values = flat[:: max(1, flat.numel() // SAMPLED_ELEMENTS) | 1].double()
        # A copy even where the tensor is float64 already: it is compared after an update.
        sampled[name] = Sampled(values.clone(), flat.numel() / max(1, values.numel()))
    return sampled


@dataclass(frozen=True)
class WeightsLook:
    """Both networks around one optimizer step; names as in the online network."""

    online_before: WeightSample
    online_after: WeightSample
    target_before: WeightSample
    target_after: WeightSample
    tau: float


def weight_signals(look: WeightsLook) -> dict[str, float]:
    """Update size and online-target drift per tower, and how the target followed.

    ``health/update_TOWER``: norm of this step's change over the norm of the weights.
    ``health/drift_TOWER``: norm of online minus target over the norm of the target.
    ``health/target_step``: norm of the target's change over its distance to the online network
    before it, which is 1 - tau when all is well.
    ``health/target_follow``: the part of the target's expected change that was seen, and
    ``health/target_error`` the norm of what differs over the norm of what is expected. Neither
    is given where tau is so near 1 that float32 itself could not hold the change.
    """
    signals = {}
    for tower in TOWERS:
        names = [name for name in look.online_after if tower_of(name) == tower]
        if names:
            moved = _norm(names, look.online_after, look.online_before)
            signals[f"health/update_{tower}"] = moved / max(_norm(names, look.online_after), 1e-12)
        followed = [name for name in names if name in look.target_after]
        if followed:
            apart = _norm(followed, look.online_after, look.target_after)
            size = max(_norm(followed, look.target_after), 1e-12)
            signals[f"health/drift_{tower}"] = apart / size
    return signals | _target_signals(look)


def _target_signals(look: WeightsLook) -> dict[str, float]:
    names = [name for name in look.target_after if name in look.online_after]
    distance = _norm(names, look.online_after, look.target_before)
    size = _norm(names, look.target_before)
    if not distance > RESOLVED * FLOAT32_EPS * size:
        return {}
    signals = {"health/target_step": _norm(names, look.target_after, look.target_before) / distance}
    expected = (1.0 - look.tau) * distance
    if expected > RESOLVED * FLOAT32_EPS * size:
        inner, off = 0.0, 0.0
        for name in names:
            before, share = look.target_before[name].values, look.target_before[name].share
            wanted = (1.0 - look.tau) * (look.online_after[name].values - before)
            seen = look.target_after[name].values - before
            inner += share * float(wanted @ seen)
            off += share * float((seen - wanted).square().sum())
        signals["health/target_follow"] = inner / expected**2
        signals["health/target_error"] = off**0.5 / expected
    return signals


def _norm(names: list[str], first: WeightSample, second: WeightSample | None = None) -> float:
    total = 0.0
    for name in names:
        values = first[name].values - second[name].values if second else first[name].values
        total += first[name].share * float(values.square().sum())
    return total**0.5
