"""Which objective, and which networks of it, a configuration asks for."""

from collections.abc import Callable

import torch

from pretrain.config import PretrainConfig
from pretrain.models import Backbone, Cohorts
from pretrain.objectives import Adversarial, Autoencoder, Byol, Networks, Objective


def build_objective(config: PretrainConfig, cohorts: Cohorts | None) -> Objective:
    """What ``config.objective`` names.

    Args:
        config: The run's configuration.
        cohorts: From `build_cohorts`.
    """
    objectives: dict[str, Callable[[], Objective]] = {
        "byol": lambda: Byol(config.byol, cohorts),
        "autoencoder": lambda: Autoencoder(config.autoencoder),
        "adversarial": lambda: Adversarial(config.adversarial),
    }
    return objectives[config.objective]()


def build_cohorts(config: PretrainConfig) -> Cohorts | None:
    """Which samples share batch statistics in the heads, if any do. Collective."""
    if config.objective != "byol" or config.byol.heads.norm == "layer":
        return None
    samples = config.byol.heads.cohort_samples(config.batch.global_samples)
    return Cohorts.over_ranks(samples, config.batch.micro_for(torch.distributed.get_world_size()))


def build_networks(
    config: PretrainConfig, objective: Objective, backbone: Backbone, fresh: bool
) -> Networks:
    """The online and the target network around a backbone.

    Args:
        config: The run's configuration.
        objective: From `build_objective`.
        backbone: As its configuration makes it.
        fresh: Whether no checkpoint will be read: towers then start from what `initial` names.
    """
    # Imported late, with transformers: most commands make no network.
    from pretrain.models.warm_start import freeze, warm_start

    if fresh:
        warm_start(backbone)
    freeze(backbone)
    networks = objective.networks(backbone)
    if config.activation_checkpointing == "encoders":
        backbone.enable_activation_checkpointing()
    if config.compile != "off":
        backbone.compile_encoders()
        target = networks.target.backbone
        assert isinstance(target, Backbone)
        target.compile_encoders()
    return networks


def checkpoint_bytes(networks: Networks) -> int:
    """About a checkpoint's size: masters and two moments, the target's masters and backbone."""
    online, target = (
        sum(parameter.numel() for parameter in network.parameters())
        for network in (networks.online, networks.target)
    )
    return 4 * (3 * online + 2 * target)
