"""Views in, a loss with named terms out.

An objective knows the backbone and its heads, not the optimizer, the ranks or the data.
"""

from pretrain.objectives.adversarial import Adversarial, AdversarialConfig
from pretrain.objectives.autoencoder import Autoencoder, AutoencoderConfig
from pretrain.objectives.base import LossReport, Networks, Objective
from pretrain.objectives.byol import Byol, ByolConfig

__all__ = [
    "Adversarial",
    "AdversarialConfig",
    "Autoencoder",
    "AutoencoderConfig",
    "Byol",
    "ByolConfig",
    "LossReport",
    "Networks",
    "Objective",
]
