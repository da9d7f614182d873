"""The target network of an objective that asks nothing of it: an averaged backbone."""

import copy

from torch import Tensor, nn

from pretrain.models import Backbone, Views


class Follower(nn.Module):
    """A copy of the backbone that follows the online one.

    The loss does not read it. It is what gets probed and published, so that all objectives
    are compared by the same kind of weights.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)

    def forward(self, views: Views) -> dict[str, Tensor]:
        """Nothing."""
        return {}
