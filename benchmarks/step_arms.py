"""The same BYOL step three times: this trainer's, a plain PyTorch one, and one of lightly's parts.

All begin with the same encoders and train on the same views, with AdamW and the same schedules.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from step_work import BASE_TAU, OPTIM, TOTAL_STEPS, Workload
from torch import Tensor, nn

from data_sharding.batch import TripleBatch
from data_sharding.schema import MODALITIES
from pretrain.ema import Target
from pretrain.engine import Engine, EngineSettings
from pretrain.models import Backbone, ModelInputs, Views
from pretrain.models.heads import GroupedMlpHead, SourceHeads, TwoLayers
from pretrain.objectives.base import FUSED, SOURCES
from pretrain.objectives.byol import PAIRS
from pretrain.optim import build_optimizer, learning_rate
from pretrain.schedules import ema_tau
from pretrain.step import StepSettings, TrainStep

Arm = Callable[[int], float]
"""Trains on the workload's views as the step of this number; gives the loss."""
Projections = dict[str, Tensor]
"""By source: [view * batch, embed], the first view's rows first."""


class Ours:
    """`TrainStep` on DeepSpeed's engine: what a rank runs, but for the loader and the views."""

    def __init__(self, workload: Workload, views: Views) -> None:
        objective, networks = workload.networks()
        if workload.compiled:
            compile_encoders(networks.online, networks.target)
        bf16 = workload.precision == "bf16"
        engine = Engine(
            networks.online,
            build_optimizer(networks.online, OPTIM),
            EngineSettings(
                micro_samples=workload.samples,
                accumulation_steps=1,
                max_gradient_norm=OPTIM.max_gradient_norm,
                precision=workload.precision,
                zero_stage=0,  # a single rank has nobody to share with
            ),
        )
        target = Target(
            networks.target.to(engine.device),
            BASE_TAU,
            TOTAL_STEPS,
            torch.bfloat16 if bf16 else torch.float32,
        )
        settings = StepSettings(
            total_steps=TOTAL_STEPS, micro_samples=workload.samples, optim=OPTIM
        )
        self._step = TrainStep(engine, target, objective, _Ready(views), settings)
        self._batch = empty_batch(workload.samples)

    def __call__(self, step: int) -> float:
        """The loss of a step."""
        return self._step(self._batch, step).loss


class _Ready:
    """Views that are made already."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def __call__(self, batch: TripleBatch) -> Views:
        return self._views


def empty_batch(samples: int) -> TripleBatch:
    """A batch of nothing, in place of the one that the views were made of."""
    return TripleBatch(
        keys=tuple(str(number) for number in range(samples)),
        sample_ids=torch.arange(samples),
        epochs=torch.zeros(samples, dtype=torch.int64),
        token_ids=torch.zeros(samples, 2, 1, dtype=torch.int64),
        token_mask=torch.ones(samples, 2, 1, dtype=torch.bool),
        image=torch.zeros(samples, 2, 3, 1, 1, dtype=torch.uint8),
        waveform=torch.zeros(samples, 2, 1),
        present=torch.ones(samples, len(MODALITIES), dtype=torch.bool),
        valid=torch.ones(samples, dtype=torch.bool),
    )


class Peer(ABC):
    """A step as it is written without a framework: autocast, fused AdamW, foreach.

    Args:
        workload: Sizes.
        views: Trained on, again and again.
        clipped: Whether gradients are clipped, as ours are.
    """

    def __init__(self, workload: Workload, views: Views, clipped: bool) -> None:
        objective, networks = workload.networks()
        backbone = networks.online.backbone
        assert isinstance(backbone, Backbone)
        self.views, self.device = views, views.image.device
        self.samples, self._bf16 = workload.samples, workload.precision == "bf16"
        self.backbone = backbone
        self.projectors, self.predictors = self.heads(networks.online, workload)
        self.to_follow: Sequence[nn.Module] = (self.backbone, self.projectors)
        self.slow_backbone, self.slow_projectors = copy.deepcopy((backbone, self.projectors))
        self.followers: Sequence[nn.Module] = (self.slow_backbone, self.slow_projectors)
        if workload.compiled:
            compile_encoders(self, self)
            self.slow_backbone.compile_encoders()
        for module in (*self.to_follow, self.predictors, *self.followers):
            module.to(self.device)
        for module in self.followers:
            module.requires_grad_(False)
        self.weights = objective.weights(0, TOTAL_STEPS)
        self._clipped = clipped
        self._optimizer = self._build_optimizer()

    @abstractmethod
    def heads(self, online: nn.Module, workload: Workload) -> tuple[nn.ModuleDict, nn.ModuleDict]:
        """Projectors by source and predictors by pair."""

    @abstractmethod
    def loss(self) -> Tensor:
        """Of both views, all pairs weighted."""

    @abstractmethod
    def follow(self, tau: float) -> None:
        """The target's update."""

    def __call__(self, step: int) -> float:
        """The loss of a step."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(step, TOTAL_STEPS, OPTIM)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            loss = self.loss()
        self._optimizer.zero_grad()
        loss.backward()
        if self._clipped and OPTIM.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self._trained(), OPTIM.max_gradient_norm, foreach=True)
        self._optimizer.step()
        with torch.no_grad():
            self.follow(ema_tau(step, TOTAL_STEPS, BASE_TAU))
        return loss.item()

    def _trained(self) -> Iterator[nn.Parameter]:
        for module in (*self.to_follow, self.predictors):
            yield from module.parameters()

    def _build_optimizer(self) -> torch.optim.Optimizer:
        groups = [
            {"params": [p for p in self._trained() if p.ndim >= 2]},
            {"params": [p for p in self._trained() if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            groups,
            lr=OPTIM.learning_rate,
            betas=OPTIM.betas,
            eps=OPTIM.eps,
            weight_decay=OPTIM.weight_decay,
            fused=True,
        )


class Plain(Peer):
    """What a good engineer writes in an afternoon: both views in one pass, one pair at a time."""

    def heads(self, online: nn.Module, workload: Workload) -> tuple[nn.ModuleDict, nn.ModuleDict]:
        """The trainer's own, taken apart."""
        projectors, predictors = online.projectors, online.predictors
        assert isinstance(projectors, SourceHeads)
        assert isinstance(predictors, GroupedMlpHead)
        sources = projectors.heads.items()
        return (
            nn.ModuleDict({n: plain_head(h, 0) for n, h in sources if isinstance(h, TwoLayers)}),
            nn.ModuleDict({_name(p): plain_head(predictors, i) for i, p in enumerate(PAIRS)}),
        )

    def loss(self) -> Tensor:
        """Both views at once."""
        online = self._project(self.backbone, self.projectors)
        with torch.no_grad():
            slow = self._project(self.slow_backbone, self.slow_projectors)
        total = torch.zeros((), device=self.device)
        for pair, weight in zip(PAIRS, self.weights, strict=True):
            source, other = pair
            prediction = _by_view(self.predictors[_name(pair)], online[source])
            swapped = torch.cat(slow[other].chunk(2)[::-1])
            cosine = F.cosine_similarity(prediction.float(), swapped.float())
            total = total + weight * 2.0 * (2.0 - 2.0 * cosine).mean()
        return total

    def follow(self, tau: float) -> None:
        """One foreach operator for each module."""
        for fast, slow in zip(self.to_follow, self.followers, strict=True):
            torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1.0 - tau)  # pyright: ignore[reportPrivateImportUsage]

    def _project(self, backbone: Backbone, projectors: nn.ModuleDict) -> Projections:
        present = self.views.present.repeat(2, 1)
        features = pooled(backbone, self.views.flattened(), present)
        return {name: _by_view(projectors[name], features[name]) for name in SOURCES}


class Lightly(Peer):
    """lightly's heads, loss and momentum update as its BYOL example has them: view by view."""

    def heads(self, online: nn.Module, workload: Workload) -> tuple[nn.ModuleDict, nn.ModuleDict]:
        """Fresh ones of the same sizes."""
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead  # type: ignore

        dims, config = self.backbone.embed_dims, workload.heads
        sizes = (config.hidden_size, config.embed_dim)
        projectors = {name: BYOLProjectionHead(dims[name], *sizes) for name in SOURCES}
        predictors = {_name(pair): BYOLPredictionHead(config.embed_dim, *sizes) for pair in PAIRS}
        return nn.ModuleDict(projectors), nn.ModuleDict(predictors)

    def loss(self) -> Tensor:
        """Of one view after the other."""
        from lightly.loss import NegativeCosineSimilarity  # type: ignore

        criterion, views = NegativeCosineSimilarity(), range(2)
        online = [self._project(self.backbone, self.projectors, view) for view in views]
        with torch.no_grad():
            slow = [self._project(self.slow_backbone, self.slow_projectors, v) for v in views]
        total = torch.zeros((), device=self.device)
        for pair, weight in zip(PAIRS, self.weights, strict=True):
            for view in views:
                prediction = self.predictors[_name(pair)](online[view][pair[0]])
                total = total + weight * criterion(prediction, slow[1 - view][pair[1]])
        return total

    def follow(self, tau: float) -> None:
        """Multiply, then add."""
        from lightly.models.utils import update_momentum  # type: ignore

        for fast, slow in zip(self.to_follow, self.followers, strict=True):
            update_momentum(fast, slow, m=tau)

    def _project(self, backbone: Backbone, projectors: nn.ModuleDict, view: int) -> Projections:
        rows = slice(view * self.samples, (view + 1) * self.samples)
        whole = vars(self.views.flattened())
        inputs = ModelInputs(**{name: tensor[rows] for name, tensor in whole.items()})
        features = pooled(backbone, inputs, self.views.present)
        return {name: projectors[name](features[name]) for name in SOURCES}


def compile_encoders(*networks: object) -> None:
    """torch.compile for the encoders of these networks, in place."""
    for backbone in {id(n): n for n in (getattr(n, "backbone") for n in networks)}.values():  # noqa: B009
        backbone.compile_encoders()


def pooled(backbone: Backbone, inputs: ModelInputs, available: Tensor) -> Mapping[str, Tensor]:
    """Features by source."""
    encoded = backbone.embed(inputs)
    features = {name: value.pooled for name, value in encoded.items()}
    return features | {FUSED: backbone.fuse(encoded, available)}


def plain_head(head: TwoLayers, index: int) -> nn.Sequential:
    """One of several heads in torch's own layers, with its weights."""
    expand, contract = head.expand, head.contract
    hidden = expand.weight.shape[2]
    made = nn.Sequential(
        nn.Linear(expand.weight.shape[1], hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, contract.weight.shape[2]),
    )
    with torch.no_grad():
        for place, grouped in ((0, expand), (3, contract)):
            made.get_submodule(str(place)).load_state_dict(
                {"weight": grouped.weight[index].T, "bias": grouped.bias[index]}
            )
    return made


def _by_view(head: nn.Module, rows: Tensor) -> Tensor:
    """Each view has batch statistics of its own."""
    return torch.cat([head(part) for part in rows.chunk(2)])


def _name(pair: tuple[str, str]) -> str:
    return "_".join(pair)


ARMS: Mapping[str, Callable[[Workload, Views], Arm]] = {
    "ours": Ours,
    "plain": lambda workload, views: Plain(workload, views, clipped=True),
    "lightly": lambda workload, views: Lightly(workload, views, clipped=False),
}
