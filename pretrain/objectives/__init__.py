"""Views in, a loss with named terms out.

An objective knows the backbone and its heads, not the optimizer, the ranks or the data.
"""

from pretrain.objectives.byol import (
    ByolConfig,
    LossReport,
    OnlineNetwork,
    Projections,
    TargetNetwork,
    TermWeights,
    available_pairs,
    pair_names,
)

__all__ = [
    "ByolConfig",
    "LossReport",
    "OnlineNetwork",
    "Projections",
    "TargetNetwork",
    "TermWeights",
    "available_pairs",
    "pair_names",
]
