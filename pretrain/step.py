"""One optimizer step: views, target projections, loss, gradients, weights, target."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data_sharding.batch import TripleBatch
from pretrain.ema import Target
from pretrain.engine import Engine
from pretrain.health.signals import rows_with
from pretrain.models import Views
from pretrain.objectives import LossReport, Objective
from pretrain.objectives.base import FUSED
from pretrain.optim import (
    OptimConfig,
    learning_rate,
    set_learning_rate,
    set_weight_decay,
    weight_decay,
)
from pretrain.prefetch import media_to, prefetched


class NonFiniteLossError(Exception):
    """A loss or its gradient is NaN or infinite; weights, moments and target are untouched.

    Raised by all ranks for the same batch; the message is the rank's own.
    """


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """What a step needs to know beside its parts."""

    total_steps: int
    micro_samples: int
    optim: OptimConfig
    waits_in_forward: bool = False
    """Whether a forward pass waits for other ranks: for batch statistics, or for their weights."""


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
    busy_seconds: tuple[float, ...]
    """Per rank: how long it waited for its batch, made views, and ran forward passes; what a rank
    that is slow makes the others wait for."""
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
        augment: Makes the views, on the engine's device.
        settings: Schedules and sizes.
    """

    def __init__(
        self,
        engine: Engine,
        target: Target,
        objective: Objective,
        augment: Callable[[TripleBatch], Views],
        settings: StepSettings,
    ) -> None:
        self._engine = engine
        self._target = target
        self._objective = objective
        self._augment = augment
        self._settings = settings
        self._busy = 0.0

    def timing(self, batches: Iterator[TripleBatch]) -> Iterator[TripleBatch]:
        """The same batches, on the engine's device where it is a GPU.

        What each was waited for counts in its step's `busy_seconds`.
        """
        batches = prefetched(batches, self._engine.device)
        while True:
            began = time.monotonic()
            batch = next(batches)
            self._busy = time.monotonic() - began
            yield batch

    def __call__(self, batch: TripleBatch, step: int) -> StepReport:
        """Train on ``batch`` as optimizer step ``step``, counted from 0. Collective.

        Raises:
            NonFiniteLossError: on every rank; the state is that before the call.
        """
        began = time.monotonic()
        settings, engine = self._settings, self._engine
        weights = self._objective.weights(step, settings.total_steps)
        rate = learning_rate(step, settings.total_steps, settings.optim)
        set_learning_rate(engine.parameter_groups, rate)
        decay = weight_decay(step, settings.total_steps, settings.optim)
        set_weight_decay(engine.parameter_groups, decay)
        self._target.set_pace(step)

        views = self._augment(media_to(batch, engine.device))
        self._busy += time.monotonic() - began
        scales = self._scales(views, len(batch) // settings.micro_samples)
        with _buffers_kept(engine.module, self._target.network):
            applied, reports = self._accumulate(batch, views, scales, weights)
            if not applied:
                raise NonFiniteLossError(self._culprits(batch, views, scales, weights, reports))
        self._target.update(engine.master_fragments())

        by_term, busy_seconds = self._over_ranks([report.by_term for report in reports])
        return StepReport(
            loss=sum(weight * value for weight, value in zip(weights, by_term, strict=True)),
            by_term=dict(zip(self._objective.terms, by_term, strict=True)),
            tau=self._target.tau(step),
            learning_rate=rate,
            weight_decay=decay,
            gradient_norm=engine.gradient_norm(),
            seconds=time.monotonic() - began,
            busy_seconds=busy_seconds,
            last=reports[-1],
            views=views.rows(len(batch) - settings.micro_samples, len(batch)),
            keys=batch.keys[len(batch) - settings.micro_samples :],
            weights=weights,
        )

    def _accumulate(
        self, batch: TripleBatch, views: Views, scales: Tensor, weights: tuple[float, ...]
    ) -> tuple[bool, list[LossReport]]:
        """Whether weights were changed, and each micro-batch's report.

        A loss that is not finite goes through the backward pass too, and spoils the gradient:
        the engine then refuses the step on all ranks, so that nobody has to be asked before.
        """
        micro, reports, applied = self._settings.micro_samples, [], False
        for start in range(0, len(batch), micro):
            began = time.monotonic()
            part = views.rows(start, start + micro)
            report = self._engine.forward(part, self._target.network(part), scales, weights)
            finite = bool(report.by_term.isfinite().all())  # waits for the device
            if not self._settings.waits_in_forward:
                self._busy += time.monotonic() - began
            self._engine.backward(report.loss if finite else report.loss * math.nan)
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

    def _over_ranks(self, by_term: list[Tensor]) -> tuple[list[float], tuple[float, ...]]:
        """Mean of the terms, and every rank's busy seconds, in one exchange. Collective."""
        engine = self._engine
        terms = torch.stack(by_term).mean(0)
        busy = terms.new_zeros(engine.world_size)
        busy[engine.rank], self._busy = self._busy, 0.0
        total = engine.sum_over_ranks(torch.cat([terms / engine.world_size, busy])).tolist()
        return total[: len(terms)], tuple(total[len(terms) :])

    def _culprits(
        self,
        batch: TripleBatch,
        views: Views,
        scales: Tensor,
        weights: tuple[float, ...],
        reports: list[LossReport],
    ) -> str:
        """Why the engine refused a step: terms, or else parameters. Collective."""
        micro = self._settings.micro_samples
        starts = range(0, len(batch), micro)
        found = []
        for start, report in zip(starts, reports, strict=True):
            found += self._bad_features(batch.keys[start : start + micro], views, start, report)
        if not self._engine.agree(not found):
            # Others' rows spoil losses too, where they share batch statistics: they are not asked.
            return self._told(found)
        for start, report in zip(starts, reports, strict=True):
            values = zip(self._objective.terms, report.by_term.tolist(), strict=True)
            if bad := [name for name, value in values if not math.isfinite(value)]:
                found.append(f"loss {', '.join(bad)} not finite in {self._span(batch, start)}")
        if self._engine.agree(not found):
            # Every loss is finite: each micro-batch is differentiated anew.
            for start in starts:
                part = views.rows(start, start + micro)
                report = self._engine.module(part, self._target.network(part), scales, weights)
                if names := self._engine.non_finite_gradients(report.loss):
                    more = f" and {len(names) - 1} more" if names[1:] else ""
                    where = f"{names[0]}{more} in {self._span(batch, start)}"
                    found.append(f"gradient of {where} not finite")
            if self._engine.agree(not found):
                return "the gradient of the whole batch overflows"
        return self._told(found)

    def _told(self, found: Sequence[str]) -> str:
        if not found:
            return "another rank met what is not finite; see its message"
        return f"rank {self._engine.rank}: {'; '.join(found)}"

    @staticmethod
    def _bad_features(
        keys: Sequence[str], views: Views, start: int, report: LossReport
    ) -> list[str]:
        """Which samples have features that are not finite, by source."""
        present = views.present[start : start + len(keys)]
        found = []
        for source, rows in report.stages.get("encoder", {}).items():
            if source == FUSED and found:
                continue  # by one of its parts
            bad = ~rows.isfinite().flatten(2).all(2).all(0).cpu()
            bad &= rows_with(source, present).cpu()
            if names := [key for key, is_bad in zip(keys, bad.tolist(), strict=True) if is_bad]:
                more = f" and {len(names) - 5} more" if names[5:] else ""
                found.append(
                    f"{source} features not finite in samples {', '.join(names[:5])}{more}"
                )
        return found

    def _span(self, batch: TripleBatch, start: int) -> str:
        keys = batch.keys[start : start + self._settings.micro_samples]
        return f"samples {keys[0]} to {keys[-1]}"


@contextmanager
def _buffers_kept(*networks: nn.Module) -> Iterator[None]:
    """Undo what forward passes did to buffers (batch norm's statistics) where the step fails."""
    buffers = [buffer for network in networks for buffer in network.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    except NonFiniteLossError:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        raise
