"""One backbone fine-tuned on one split.

What trains is given the training and the validation part; the test part is read after the epoch
has been chosen, once, and once more for each modality that is masked to see what it gave.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from data_sharding.schema import MODALITIES
from eval.finetune.config import FineTuneConfig
from eval.finetune.inputs import TaskInputs, recipe
from eval.finetune.losses import (
    class_weights,
    drop_modalities,
    epoch_rows,
    make_loss,
    to_targets,
)
from eval.finetune.model import TunedModel
from eval.finetune.optimizer import build_optimizer, set_rates
from eval.metrics import Scores
from eval.probes.fits import Selected, read_test
from eval.probes.linear_probe import SplitProblem, SplitResult, refuse_absent_classes
from eval.probes.regression import Problem, RegressionProblem, selection_mark
from eval.regression_metrics import RegressionScores
from eval.release.embed import device_of
from eval.release.head import had_by_any
from eval.splits import refuse_leakage
from pretrain.models import Backbone

READ_BATCH = 128
"""Samples of one pass without gradients."""

Rows = Int64[np.ndarray, "row"]
Votes = Float[np.ndarray, "row vote"]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One pass over the training part."""

    loss: float
    """Mean over its steps."""
    validation: float
    """Macro-F1 on validation, or the mean absolute error of numbers."""


@dataclass(frozen=True, kw_only=True)
class Masked:
    """The tuned model without one modality, on the test samples that have another one."""

    scores: Scores | RegressionScores
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class TunedResult(SplitResult):
    """What one split gave."""

    epoch: int
    """The one that validation chose, counted from 1; of equals the first."""
    curve: tuple[Epoch, ...]
    """Every epoch, in order."""
    validation: Scores | RegressionScores
    """On validation, after that epoch."""
    masked: Mapping[str, Masked | None]
    """By the modality that was masked; of fusions that have two or more to read. None where no test
    sample has another one."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The model of one split, after the chosen epoch, and what it gave."""

    model: TunedModel
    result: TunedResult
    learned: tuple[str, ...]
    """Modalities that some training sample gave it."""


def fine_tune(
    backbone: Backbone,
    inputs: TaskInputs,
    problem: Problem,
    name: str,
    config: FineTuneConfig,
    seed: int = 0,
) -> Tuned:
    """Fine-tune a copy of a backbone and a linear head on one representation.

    One thread computes, so that the numbers do not depend on the machine's cores or on how many
    splits are fine-tuned at once; on a CPU the same seed gives the same numbers.

    Args:
        backbone: Stays as it is.
        inputs: Made by `read_inputs` for such a backbone.
        problem: Labels and the split, of samples that have what the representation reads.
        name: The representation.
        config: How.
        seed: Of the order of samples and of both dropouts.

    Raises:
        ValueError: A group in two parts, an empty part, a class without a training row, an option
            that the labels have no use for, inputs of another preprocessing, or outputs that
            are not finite.
    """
    numbers = isinstance(problem, RegressionProblem)
    config = config.for_labels(numbers)
    refuse_leakage(problem.split, problem.groups)
    if isinstance(problem, SplitProblem):
        refuse_absent_classes(problem.labels[problem.split.train], problem.num_classes)
    if inputs.made_by != recipe(backbone):
        raise ValueError(f"{name}: the inputs were made for a backbone of another preprocessing")
    if not inputs.read_by(name):
        raise ValueError(f"{name}: the inputs hold {', '.join(inputs.modalities)} alone")
    with _one_thread(), _seeded(seed, device_of(config.device)):
        run = _Run(backbone, inputs, problem, name, config)
        curve, best = run.train(seed)
        given = inputs.present(problem.split.train, name).numpy()
        result = run.result(curve, best)
        return Tuned(model=run.model.eval(), result=result, learned=had_by_any(given))


class _Run:
    """The training of one split."""

    def __init__(
        self,
        backbone: Backbone,
        inputs: TaskInputs,
        problem: Problem,
        name: str,
        config: FineTuneConfig,
    ) -> None:
        self.inputs, self.problem, self.config = inputs, problem, config
        self.device = device_of(config.device)
        model = TunedModel(copy.deepcopy(backbone), name, inputs, problem.num_votes, config.dropout)
        self.model = model.to(self.device)
        taught = problem.labels[problem.split.train]
        self.scale = (0.0, 1.0)
        if isinstance(problem, RegressionProblem):
            self.scale = (float(taught.mean()), float(taught.std()) or 1.0)
        self.chances: np.ndarray | None = None
        in_loss: Tensor | None = None
        if config.balance != "none":
            weights = class_weights(taught, problem.num_votes)
            if config.balance == "sampler":
                self.chances = weights[taught]
            else:
                in_loss = torch.from_numpy(weights).float().to(self.device)
        self.loss = make_loss(config, in_loss)

    def train(self, seed: int) -> tuple[tuple[Epoch, ...], int]:
        """Train all epochs, and give the model the weights of the best; which it was, from 0."""
        rows, config = self.problem.split.train, self.config
        self.model.standardise(self._features(rows))
        optimizer = build_optimizer(self.model, config)
        total, step = config.epochs * -(-len(rows) // config.batch_size), 0
        curve: list[Epoch] = []
        best, highest, kept = 0, -np.inf, self._state()
        for epoch in range(config.epochs):
            losses = []
            order = epoch_rows(rows, self.chances, (seed, epoch))
            for start in range(0, len(order), config.batch_size):
                set_rates(optimizer, step, total, config)
                losses.append(self._step(optimizer, order[start : start + config.batch_size]))
                step += 1
            mark = selection_mark(self._validate())
            curve.append(Epoch(loss=float(np.mean(losses)), validation=abs(mark)))
            if mark > highest:
                best, highest, kept = epoch, mark, self._state()
        self.model.load_state_dict(kept)
        return tuple(curve), best

    def result(self, curve: tuple[Epoch, ...], best: int) -> TunedResult:
        """Read the test part."""
        validation = self._validate()
        votes = self._votes(self.problem.split.test)
        read = read_test(self.problem, votes, Selected(mark=selection_mark(validation)))
        return TunedResult(
            **{entry.name: getattr(read, entry.name) for entry in fields(SplitResult)},
            epoch=best + 1,
            curve=curve,
            validation=validation,
            masked={name: self._masked(name) for name in self._maskable()},
        )

    def _step(self, optimizer: torch.optim.Optimizer, rows: Rows) -> float:
        self.model.train()
        outputs = self._forward(rows)
        targets = to_targets(self.problem.labels[rows], self.scale, self.device)
        loss = self.loss(outputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.max_gradient_norm is not None:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, self.config.max_gradient_norm)
        optimizer.step()
        return float(loss.detach())  # NaN ends in the outputs, which are looked at

    def _forward(self, rows: Rows) -> Tensor:
        """Outputs on training samples, some of whose modalities may be left out."""
        inputs = self.inputs.rows(rows, self.model.name, self.device)
        chance = self.config.modality_dropout if self._maskable() else 0.0
        available = drop_modalities(self.inputs.present(rows, self.model.name), chance)
        return self.model(inputs, available.to(self.device))

    def _validate(self) -> Scores | RegressionScores:
        rows = self.problem.split.validation
        return self.problem.score(rows, self.problem.decide(self._votes(rows)))

    @torch.no_grad()
    def _features(self, rows: Rows) -> Float[np.ndarray, "row dim"]:
        self.model.eval()
        found = []
        for part in _parts(rows):
            inputs = self.inputs.rows(part, self.model.name, self.device)
            available = self.inputs.present(part, self.model.name).to(self.device)
            found.append(self.model.represent(inputs, available).double().cpu().numpy())
        return np.concatenate(found)

    @torch.no_grad()
    def _votes(self, rows: Rows, masked: str | None = None) -> Votes:
        """Class probabilities; or the predicted number within its bounds, as one column."""
        self.model.eval()
        found = []
        for part in _parts(rows):
            available = self.inputs.present(part, self.model.name)
            if masked is not None:
                available[:, MODALITIES.index(masked)] = False
            inputs = self.inputs.rows(part, self.model.name, self.device)
            found.append(self.model(inputs, available.to(self.device)).double().cpu())
        outputs = torch.cat(found)
        if not torch.isfinite(outputs).all():
            raise ValueError(
                f"{self.model.name}: fine-tuning has left the finite numbers; lower "
                "finetune.backbone_lr and finetune.head_lr"
            )
        if isinstance(self.problem, RegressionProblem):
            numbers = outputs.numpy() * self.scale[1] + self.scale[0]
            return np.clip(numbers, *self.problem.bounds)
        return outputs.softmax(1).numpy()

    def _maskable(self) -> tuple[str, ...]:
        fused = self.model.name not in MODALITIES
        return self.model.towers if fused and len(self.model.towers) > 1 else ()

    def _masked(self, modality: str) -> Masked | None:
        test, column = self.problem.split.test, MODALITIES.index(modality)
        others = self.inputs.present(test, self.model.name)
        others[:, column] = False
        rows = test[others.any(1).numpy()]
        if len(rows) == 0:
            return None
        predicted = self.problem.decide(self._votes(rows, modality))
        return Masked(scores=self.problem.score(rows, predicted), num_samples=len(rows))

    def _state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def _parts(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), READ_BATCH):
        yield rows[start : start + READ_BATCH]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout draws from torch's own generators, which are as before afterwards."""
    with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
