"""One optimizer step: views, target projections, loss, gradients, weights, target."""

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from data_sharding.batch import TripleBatch
from pretrain.ema import Target
from pretrain.engine import Engine
from pretrain.health.signals import rows_with
from pretrain.models import Views
from pretrain.objectives import LossReport, Objective
from pretrain.optim import (
    OptimConfig,
    learning_rate,
    set_learning_rate,
    set_weight_decay,
    weight_decay,
)
from pretrain.views import Augment


class NonFiniteLossError(Exception):
    """A loss or its gradient is NaN or infinite; weights, moments and target are untouched."""


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What a step needs to know beside its parts."""

    total_steps: int
    micro_samples: int
    optim: OptimConfig


@dataclass(frozen=True)
class StepReport:
    """What one step showed: means over the global batch, and this rank's last micro-batch."""

    loss: float
    by_term: dict[str, float]
    tau: float
    learning_rate: float
    weight_decay: float
    gradient_norm: float
    seconds: float
    last: LossReport
    views: Views
    keys: tuple[str, ...]
    weights: tuple[float, ...]

    def embeddings(self) -> dict[str, tuple[Tensor, list[str]]]:
        """Features of the last micro-batch's first view and their samples' keys, by source.

        Samples without a modality are left out of it.
        """
        found = {}
        for source, rows in self.last.stages.get("encoder", {}).items():
            here = rows_with(source, self.views.present)
            keys = [key for key, there in zip(self.keys, here.tolist(), strict=True) if there]
            found[source] = (rows[0][here.to(rows.device)], keys)
        return found

    def values(self) -> dict[str, float]:
        """Scalars by name, for the sinks."""
        return {
            "loss/total": self.loss,
            **{f"loss/{name}": value for name, value in self.by_term.items()},
            "schedule/tau": self.tau,
            "schedule/learning_rate": self.learning_rate,
            "schedule/weight_decay": self.weight_decay,
            "gradient/norm": self.gradient_norm,
        }


class TrainStep:
    """Applies one optimizer step for one global batch; each rank brings its share.

    Args:
        engine: Holds the online network.
        target: Follows it.
        objective: What is minimised; made both networks.
        augment: Makes the views.
        settings: Schedules and sizes.
    """

    def __init__(
        self,
        engine: Engine,
        target: Target,
        objective: Objective,
        augment: Augment,
        settings: StepSettings,
    ) -> None:
        self._engine = engine
        self._target = target
        self._objective = objective
        self._augment = augment
        self._settings = settings

    def __call__(self, batch: TripleBatch, step: int) -> StepReport:
        """Train on ``batch`` as optimizer step ``step``, counted from 0. Collective.

        Raises:
            NonFiniteLossError: on every rank, before any weight is touched.
        """
        began = time.monotonic()
        settings, engine = self._settings, self._engine
        weights = self._objective.weights(step, settings.total_steps)
        rate = learning_rate(step, settings.total_steps, settings.optim)
        set_learning_rate(engine.parameter_groups, rate)
        decay = weight_decay(step, settings.total_steps, settings.optim)
        set_weight_decay(engine.parameter_groups, decay)

        views = self._augment(batch).to(engine.device)
        scales = self._scales(views, len(batch) // settings.micro_samples)
        applied, reports = self._accumulate(batch, views, scales, weights)
        if not applied:
            raise NonFiniteLossError(self._culprits(batch, views, scales, weights))
        self._target.update(engine.master_parameters(), step)

        by_term = self._mean_over_ranks([report.by_term for report in reports])
        return StepReport(
            loss=sum(weight * value for weight, value in zip(weights, by_term, strict=True)),
            by_term=dict(zip(self._objective.terms, by_term, strict=True)),
            tau=self._target.tau(step),
            learning_rate=rate,
            weight_decay=decay,
            gradient_norm=engine.gradient_norm(),
            seconds=time.monotonic() - began,
            last=reports[-1],
            views=views.rows(len(batch) - settings.micro_samples, len(batch)),
            keys=batch.keys[len(batch) - settings.micro_samples :],
            weights=weights,
        )

    def _accumulate(
        self, batch: TripleBatch, views: Views, scales: Tensor, weights: tuple[float, ...]
    ) -> tuple[bool, list[LossReport]]:
        micro, reports, applied = self._settings.micro_samples, [], False
        for start in range(0, len(batch), micro):
            part = views.rows(start, start + micro)
            report = self._engine.forward(part, self._target.network(part), scales, weights)
            self._refuse_non_finite(report, batch, start)
            self._engine.backward(report.loss)
            applied = self._engine.step()
            reports.append(report)
        return applied, reports

    def _scales(self, views: Views, accumulation_steps: int) -> Tensor:
        """Per term: ranks x micro-batches / available rows of the global batch.

        DeepSpeed averages gradients over ranks and micro-batches, so this makes them those
        of the mean over the available rows of the whole global batch.
        """
        counts = self._engine.sum_over_ranks(self._objective.available(views).sum(1))
        return self._engine.world_size * accumulation_steps / counts.clamp(min=1.0)

    def _mean_over_ranks(self, by_term: list[Tensor]) -> list[float]:
        local = torch.stack(by_term).mean(0)
        return (self._engine.sum_over_ranks(local) / self._engine.world_size).tolist()

    def _refuse_non_finite(self, report: LossReport, batch: TripleBatch, start: int) -> None:
        values = zip(self._objective.terms, report.by_term.tolist(), strict=True)
        bad = [name for name, value in values if not math.isfinite(value)]
        if self._engine.agree(not bad):
            return
        if not bad:
            raise NonFiniteLossError("another rank met a loss that is not finite; see its message")
        raise NonFiniteLossError(
            f"rank {self._engine.rank}: {', '.join(bad)} not finite in samples "
            f"{self._span(batch, start)}; no weight was changed"
        )

    def _culprits(
        self, batch: TripleBatch, views: Views, scales: Tensor, weights: tuple[float, ...]
    ) -> str:
        """Why the engine refused a step: every micro-batch is differentiated anew. Collective."""
        engine, micro, found = self._engine, self._settings.micro_samples, []
        for start in range(0, len(batch), micro):
            part = views.rows(start, start + micro)
            report = engine.module(part, self._target.network(part), scales, weights)
            if names := engine.non_finite_gradients(report.loss):
                more = f" and {len(names) - 1} more" if names[1:] else ""
                found.append(f"that of {names[0]}{more} in samples {self._span(batch, start)}")
        if engine.agree(not found):
            return "the gradient of the whole batch overflows; no weight was changed"
        if not found:
            return "another rank met a gradient that is not finite; see its message"
        culprits = "; ".join(found)
        return f"rank {engine.rank}: gradient not finite: {culprits}; no weight was changed"

    def _span(self, batch: TripleBatch, start: int) -> str:
        keys = batch.keys[start : start + self._settings.micro_samples]
        return f"{keys[0]} to {keys[-1]}"
