"""One micro-batch's passes on tensors without content: their arithmetic, their memory.

Nothing is allocated: a network of any size is looked at within seconds on any machine.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from data_sharding.schema import MODALITIES
from data_sharding.stats import CorpusStats
from launch.plan.contentless import (
    ATTENTION_FLOPS,
    LiveBytes,
    gradients_dropped,
    without_content,
)
from pretrain.config import PretrainConfig
from pretrain.memory import NetworkSizes
from pretrain.models import Backbone, Views
from pretrain.networks import build_networks, build_objective, checkpoint_bytes
from pretrain.objectives import Networks, Objective

MOMENTS = {"adamw": 2, "sgd": 1, "lars": 1, "adagrad": 1}
"""Numbers that an optimizer keeps for each weight."""


ON_DEVICE = 2
"""Batches of crops: `pretrain.prefetch` sends the next one while a step runs."""


@dataclass(frozen=True, kw_only=True)
class Passes:
    """What one micro-batch of one rank takes.

    Attributes:
        target_flops: Floating-point operations of the target's forward pass, two for each
            multiply-add, both views.
        online_flops: Of the online network's.
        backward_flops: Of the backward pass, what is computed again included.
        activation_bytes: Most that all tensors take at once beside weights and their gradients,
            the views included, and what this batch's and the next one's are made of.
    """

    target_flops: int
    online_flops: int
    backward_flops: int
    activation_bytes: int

    @property
    def flops(self) -> int:
        """Of a micro-batch in all."""
        return self.target_flops + self.online_flops + self.backward_flops


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Entries of weights by part.

    Attributes:
        by_part: Of the online network: each encoder, the fusion, what comes after the backbone.
        sizes: Of both networks, as ZeRO shares them out.
        checkpoint_bytes: About the size of a checkpoint.
    """

    by_part: Mapping[str, int]
    sizes: NetworkSizes
    checkpoint_bytes: int


class Rehearsal:
    """The two networks of a run, without content.

    Args:
        config: The run's.
        stats: Of its corpus.
        tokenizer_file: Beside them; few text encoders look into it.
    """

    def __init__(self, config: PretrainConfig, stats: CorpusStats, tokenizer_file: Path) -> None:
        self._config = replace(config, compile="off")  # the same numbers, later
        self._stats = stats
        # The exchange between ranks is left out: each rank's rows are one cohort.
        self._objective: Objective = build_objective(config, None)
        with without_content():
            backbone = Backbone(config.backbone, stats, tokenizer_file)
            self._networks: Networks = build_networks(
                self._config, self._objective, backbone, fresh=False
            )

    def entries(self) -> Entries:
        """How many entries the weights have."""
        online, target = self._networks.online, self._networks.target
        backbone = online.backbone
        assert isinstance(backbone, Backbone)
        parts = {name: _entries(backbone.encoders[name].parameters()) for name in MODALITIES}
        parts["fusion"] = _entries(backbone.fusion.parameters())
        parts["heads"] = _entries(online.parameters()) - _entries(backbone.parameters())
        trained = _entries(p for p in online.parameters() if p.requires_grad)
        followed = _entries(p for p in target.parameters() if p.requires_grad)
        return Entries(
            by_part=parts,
            sizes=NetworkSizes(
                online=trained,
                target=followed,
                frozen=_entries(online.parameters()) - trained,
                moments=MOMENTS[self._config.optim.optimizer],
            ),
            checkpoint_bytes=checkpoint_bytes(self._networks),
        )

    def passes(self, micro_samples: int, rank_samples: int, complete: bool) -> Passes:
        """Go through one micro-batch; only once, for the weights then have their working dtype.

        Args:
            micro_samples: Samples of a pass.
            rank_samples: Of a rank's share of the global batch, whose views are made at once.
            complete: Whether every sample has every modality.
        """
        online, target = self._networks.online, self._networks.target
        target.requires_grad_(False)
        if self._config.precision == "bf16":
            online.bfloat16()
            for parameter in target.parameters():
                parameter.data = parameter.data.bfloat16()
        with without_content():
            memory = LiveBytes()
            with memory:
                batches = [self._batch(rank_samples) for _ in range(ON_DEVICE)]
                views = self._views(rank_samples, complete)
            part = views.rows(0, micro_samples)
            passes = pass_through(online, target, part, self._objective, memory)
        del batches  # which lay there all the while
        return passes

    def _batch(self, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops of pictures and sounds, as they reach the device."""
        side, clip = self._config.backbone.image.size_pixels, self._clip_samples
        pictures = torch.zeros(samples, 2, 3, side, side, dtype=torch.uint8)
        return pictures, torch.zeros(samples, 2, clip)

    @property
    def _clip_samples(self) -> int:
        return round(self._config.views.audio.crop_seconds * self._stats.log_mel.sample_rate_hz)

    def _views(self, samples: int, complete: bool) -> Views:
        """As `Augment` gives them."""
        backbone, log_mel = self._config.backbone, self._stats.log_mel
        tokens, side = (2, samples, backbone.text.max_tokens), backbone.image.size_pixels
        frames = self._clip_samples // log_mel.hop_samples + 1
        pictures = torch.bfloat16 if self._config.precision == "bf16" else torch.float32
        return Views(
            token_ids=torch.zeros(tokens, dtype=torch.int64),
            token_mask=torch.zeros(tokens, dtype=torch.bool),
            image=torch.zeros(2, samples, 3, side, side, dtype=pictures),
            log_mel=torch.zeros(2, samples, log_mel.num_mels, frames),
            present=torch.zeros(samples, len(MODALITIES), dtype=torch.bool),
            subset=torch.zeros(2, samples, len(MODALITIES), dtype=torch.bool),
            complete=complete,
        )


def pass_through(
    online: nn.Module, target: nn.Module, views: Views, objective: Objective, memory: LiveBytes
) -> Passes:
    """One micro-batch through target, online network and back.

    Args:
        online: The online network.
        target: The target.
        views: Of the micro-batch.
        objective: Made both.
        memory: Has seen how the views were made.
    """
    flops = []

    @contextmanager
    def counted() -> Iterator[None]:
        with memory, FlopCounterMode(display=False, custom_mapping=ATTENTION_FLOPS) as counter:
            yield
        flops.append(counter.get_total_flops())

    scales, weights = torch.ones(len(objective.terms)), (1.0,) * len(objective.terms)
    with counted():
        targets = target(views)
    with counted():
        report = online(views, targets, scales, weights)
    with gradients_dropped(online), counted():
        report.loss.backward()
    return Passes(
        target_flops=flops[0],
        online_flops=flops[1],
        backward_flops=flops[2],
        activation_bytes=memory.most,
    )


def _entries(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)
