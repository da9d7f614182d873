"""Looks at a run every few steps, remembers what it saw, and keeps a verdict."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from data_sharding.batch import TripleBatch
from pretrain.health.config import HealthConfig
from pretrain.health.gradients import GradientProbe
from pretrain.health.rules import Look, judge
from pretrain.health.signals import alignment_signals, only_present, stage_signals
from pretrain.health.verdict import Finding, Verdict
from pretrain.health.weights import WeightSample, WeightsLook, sample_weights, weight_signals
from pretrain.models import Views
from pretrain.objectives import LossReport

NamedWeights = Callable[[], Iterable[tuple[str, Tensor]]]


@runtime_checkable
class Seen(Protocol):
    """What a step tells of itself: `StepReport`."""

    @property
    def last(self) -> LossReport:
        """Loss and embeddings of this rank's last micro-batch."""
        ...

    @property
    def views(self) -> Views:
        """Its views."""
        ...

    @property
    def weights(self) -> tuple[float, ...]:
        """Of the terms, at this step."""
        ...

    @property
    def tau(self) -> float:
        """Of the target's update after this step."""
        ...

    def values(self) -> dict[str, float]:
        """Losses and schedules by name."""
        ...


Report = TypeVar("Report", bound=Seen)


@dataclass(frozen=True, kw_only=True)
class WatchedRun:
    """The parts of a run that are looked at.

    Attributes:
        online_weights: Float32 masters of the online network. Collective.
        target_weights: Masters of the target.
        gradients: Measures gradient shares.
        sum_over_ranks: Sum of a tensor over all ranks. Collective.
        total_steps: Of the run.
        record: Takes the full record of a look; does something on one rank only.
    """

    online_weights: NamedWeights
    target_weights: NamedWeights
    gradients: GradientProbe
    sum_over_ranks: Callable[[Tensor], Tensor]
    total_steps: int
    record: Callable[[int, Mapping[str, Any]], None] = field(default=lambda step, values: None)


class HealthMonitor:
    """Signals and verdict of a run.

    Every rank has one, and all come to the same verdict on what stops a run; the gradients'
    shares, which only warn, are each rank's own.

    Args:
        config: How often, and what counts as sick.
        run: What is looked at.
        every_steps: Steps between two looks.
        looks: Those of an earlier part of the run, from `load_looks`.
    """

    def __init__(
        self,
        config: HealthConfig,
        run: WatchedRun,
        every_steps: int,
        looks: Sequence[Look] = (),
    ) -> None:
        self._config = config
        self._run = run
        self._every = every_steps
        self._looks = list(looks)
        self.verdict = Verdict()
        for seen in range(len(self._looks)):
            self._judge(self._looks[: seen + 1])

    def asks_to_stop(self) -> bool:
        """Whether the run has collapsed and is to end."""
        return self._config.on_collapse == "stop" and self.verdict.state == "collapsed"

    def watch(self, step: Callable[[TripleBatch, int], Report]) -> "WatchedStep[Report]":
        """The same step, looked at from both sides where a look is due."""
        return WatchedStep(self, step)

    def due(self, step: int) -> bool:
        """Whether optimizer step ``step``, counted from 0, is looked at."""
        return (step + 1) % self._every == 0

    def weights(self) -> tuple[WeightSample, WeightSample]:
        """A sample of the online and the target weights. Collective."""
        run = self._run
        return sample_weights(run.online_weights()), sample_weights(run.target_weights())

    def look(self, step: int, seen: Seen, before: tuple[WeightSample, WeightSample]) -> None:
        """Take the signals of a step just done, and judge. Collective.

        Args:
            step: Optimizer steps done, counted from 1.
            seen: What the step told.
            before: `weights` before the step.
        """
        signals = (
            seen.values()
            | self._over_ranks(self._embedding_signals(seen))
            | self._gradient_signals(seen)
            | weight_signals(WeightsLook(*_paired(before, self.weights()), seen.tau))
        )
        self._looks.append(Look(step, step / self._run.total_steps, signals))
        news = [finding.sentence for finding in self._judge(self._looks)]
        self._run.record(step, {**signals, "verdict": self.verdict.to_json(), "news": news})

    def values(self, step: int) -> dict[str, float]:
        """What the look at ``step`` adds to a step's metrics; nothing where there was none."""
        if not self._looks or self._looks[-1].step != step:
            return {}
        states = {"healthy": 0.0, "warned": 1.0, "collapsed": 2.0}
        signals = {
            name: value
            for name, value in self._looks[-1].signals.items()
            if name.startswith(("health/", "gradient/"))
        }
        return signals | {"health/verdict": states[self.verdict.state]}

    def _judge(self, looks: Sequence[Look]) -> list[Finding]:
        """Bring the verdict up to the newest of the looks; returns what is new in it.

        What asked to stop the run stays found, whatever later looks say.
        """
        known = {finding.rule for finding in self.verdict.findings}
        found = judge(looks, self._config)
        now = {finding.rule for finding in found}
        stays = tuple(
            finding
            for finding in self.verdict.findings
            if finding.severity == "stop" and finding.rule not in now
        )
        self.verdict = Verdict(step=looks[-1].step, findings=(*found, *stays))
        return [finding for finding in found if finding.rule not in known]

    def _embedding_signals(self, seen: Seen) -> dict[str, float]:
        rows = self._config.rows
        stages = {
            stage: {source: value[:, :rows].float() for source, value in by_source.items()}
            for stage, by_source in seen.last.stages.items()
        }
        present = seen.views.present[:rows].cpu()
        return stage_signals(only_present(stages, present)) | alignment_signals(stages, present)

    def _over_ranks(self, signals: Mapping[str, float]) -> dict[str, float]:
        """Mean over the ranks that have a number; without names that none has."""
        values = torch.tensor([signals[name] for name in sorted(signals)], dtype=torch.float64)
        known = values.isfinite()
        filled = torch.where(known, values, 0.0)
        total, count = self._run.sum_over_ranks(torch.stack([filled, known.double()])).cpu()
        return {
            name: float(value / number)
            for name, value, number in zip(sorted(signals), total, count, strict=True)
            if number
        }

    def _gradient_signals(self, seen: Seen) -> dict[str, float]:
        rows = self._config.gradient_rows
        return self._run.gradients(seen.views.rows(0, rows), seen.weights) if rows else {}


@dataclass(frozen=True)
class WatchedStep(Generic[Report]):
    """A step that is looked at where a look is due, and untouched elsewhere."""

    monitor: HealthMonitor
    step: Callable[[TripleBatch, int], Report]

    def __call__(self, batch: TripleBatch, step: int) -> Report:
        """Do the step. Collective."""
        if not self.monitor.due(step):
            return self.step(batch, step)
        before = self.monitor.weights()
        report = self.step(batch, step)
        self.monitor.look(step + 1, report, before)
        return report


def load_looks(path: Path, resumed_at: int, total_steps: int) -> list[Look]:
    """The looks that a run's ``health.jsonl`` holds up to a step; none where it has no file."""
    looks = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line cut short by a kill
        if record["step"] <= resumed_at:
            signals = {
                name: float(value)
                for name, value in record.items()
                if name != "step" and isinstance(value, int | float) and math.isfinite(value)
            }
            looks.append(Look(record["step"], record["step"] / total_steps, signals))
    return looks


def _paired(
    before: tuple[WeightSample, WeightSample], after: tuple[WeightSample, WeightSample]
) -> tuple[WeightSample, WeightSample, WeightSample, WeightSample]:
    return before[0], after[0], before[1], after[1]
