"""Whose gradients are whose: share of each tower, and where the groups of terms disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pretrain.health.towers import TOWERS, tower_of
from pretrain.models import Views
from pretrain.objectives import Objective

Gradients = Mapping[str, Tensor]
"""Parameter name -> gradient."""


def group_of(term: str) -> str:
    """The group of a term: what is before the first underscore of its name."""
    return term.partition("_")[0]


@dataclass(frozen=True)
class GradientProbe:
    """Gradients of each group of terms on a few rows, without touching ``.grad``.

    Attributes:
        online: The trained module, without any wrapping.
        target: The network that follows it.
        objective: Made both.
    """

    online: nn.Module
    target: nn.Module
    objective: Objective

    def __call__(self, views: Views, weights: Sequence[float]) -> dict[str, float]:
        """Signals of `gradient_signals` for terms of the given weights.

        The random state and the running statistics of the networks are left as they were, so
        that a run is the same whether it is looked at or not.
        """
        terms = self.objective.terms
        groups = dict.fromkeys(map(group_of, terms))
        scales = 1.0 / self.objective.available(views).sum(1).clamp(min=1.0)
        by_group = {}
        with torch.random.fork_rng():
            targets = functional_call(self.target, _buffers(self.target), (views,))
            for group in groups:
                own = tuple(
                    weight if group_of(term) == group else 0.0
                    for term, weight in zip(terms, weights, strict=True)
                )
                if any(own):
                    by_group[group] = self._gradients((views, targets, scales, own))
        return gradient_signals(by_group)

    def _gradients(self, inputs: tuple[object, ...]) -> Gradients:
        parameters = {n: p for n, p in self.online.named_parameters() if p.requires_grad}
        with torch.enable_grad():
            report = functional_call(self.online, _buffers(self.online), inputs)
            gradients = torch.autograd.grad(
                report.loss, list(parameters.values()), allow_unused=True
            )
        return {
            name: gradient.detach().float()
            for name, gradient in zip(parameters, gradients, strict=True)
            if gradient is not None
        }


def gradient_signals(by_group: Mapping[str, Gradients]) -> dict[str, float]:
    """Share of each tower in the gradient norm, and cosines between groups per tower.

    ``gradient/share_TOWER``: the tower's norm over the sum of the towers' norms, of the whole
    loss. ``gradient/cosine_GROUP_GROUP_TOWER``: below 0 the two groups pull against each other.
    ``gradient/share_GROUP``: the group's norm over the sum of the groups' norms.
    """
    whole = _summed(by_group)
    norms = {tower: _norm(_of_tower(whole, tower)) for tower in TOWERS}
    signals = _shares({tower: norm for tower, norm in norms.items() if norm > 0.0})
    signals |= _shares({group: _norm(gradients) for group, gradients in by_group.items()})
    for first, second in combinations(by_group, 2):
        for tower in TOWERS:
            a, b = (_of_tower(by_group[group], tower) for group in (first, second))
            product = _norm(a) * _norm(b)
            if product > 0.0:
                inner = sum(float((a[name] * b[name]).sum()) for name in a.keys() & b.keys())
                signals[f"gradient/cosine_{first}_{second}_{tower}"] = inner / product
    return signals


def _shares(norms: Mapping[str, float]) -> dict[str, float]:
    total = sum(norms.values())
    return {f"gradient/share_{name}": norm / total for name, norm in norms.items() if total > 0.0}


def _summed(by_group: Mapping[str, Gradients]) -> dict[str, Tensor]:
    whole: dict[str, Tensor] = {}
    for gradients in by_group.values():
        for name, gradient in gradients.items():
            whole[name] = whole[name] + gradient if name in whole else gradient
    return whole


def _of_tower(gradients: Gradients, tower: str) -> dict[str, Tensor]:
    return {name: value for name, value in gradients.items() if tower_of(name) == tower}


def _norm(gradients: Gradients) -> float:
    return sum(float(value.square().sum()) for value in gradients.values()) ** 0.5


def _buffers(network: nn.Module) -> dict[str, Tensor]:
    """Copies, for a forward pass that may write running statistics."""
    return {name: buffer.clone() for name, buffer in network.named_buffers()}
