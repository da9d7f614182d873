"""The target network of an objective that asks nothing of it: an averaged backbone."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pretrain.models import Backbone, Views


class Follower(nn.Module):
    """A copy of the backbone that follows the online one.

    The loss does not read it. It is what gets probed and published, so that all objectives
    are compared by the same kind of weights. Its batch norms gather the views' statistics, as
    those of a target that is read do.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self._gathers = any(isinstance(part, _BatchNorm) for part in backbone.modules())

    @torch.no_grad()
    def forward(self, views: Views) -> dict[str, Tensor]:
        """Nothing that the loss would need."""
        if self._gathers:
            self.backbone.embed(views.flattened())
        return {}
