"""What a model card states of a run's energy: from the run's own record of its counters."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.checkpoint import Checkpoint
from pretrain.metrics import ENERGY_FILE
from pretrain.metrics.energy import KINDS

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Used:
    """What counters of one kind counted."""

    kwh: float
    steps: int
    """Optimizer steps in whose time they did."""


@dataclass(frozen=True, kw_only=True)
class EnergyFacts:
    """The energy of the steps up to a checkpoint.

    Attributes:
        steps: Up to the checkpoint.
        recorded: Whether the run kept a record.
        used: By kind, ``gpu`` or ``cpu``; without those that were never read.
        unread: By kind, why counters could not be read, each reason once.
    """

    steps: int
    recorded: bool
    used: Mapping[str, Used]
    unread: Mapping[str, tuple[str, ...]]

    def share(self, kind: str) -> str:
        """Of the steps up to the checkpoint, those in whose time a kind was counted; in words."""
        steps = self.used[kind].steps
        if steps >= self.steps:
            return "all steps"
        return f"{max(0.1, math.floor(1000.0 * steps / self.steps) / 10.0):g} % of the steps"

    def gaps(self) -> list[tuple[str, str]]:
        """Name of each kind that was not read over all steps, and why; none without a reason."""
        return [
            (name, "; ".join(self.unread[kind]))
            for kind, name in KINDS.items()
            if kind in self.unread and (kind not in self.used or self.share(kind) != "all steps")
        ]


def read_energy(checkpoint: Checkpoint) -> EnergyFacts:
    """Add up what a run's ``energy.jsonl`` holds up to a checkpoint.

    Each of its windows ends at the record's step and is over as many steps as that names. A window
    in which a kind could not be read is a gap in that kind, and counts as nothing.
    """
    path = checkpoint.run / ENERGY_FILE
    joules = dict.fromkeys(KINDS, 0.0)
    steps = dict.fromkeys(KINDS, 0)
    unread: dict[str, dict[str, None]] = {}
    for record in _records(path, checkpoint.step):
        for kind in KINDS:
            if (more := _positive(record.get(f"{kind}_joules"))) is not None:
                joules[kind] += more
                steps[kind] += int(_positive(record.get("steps")) or 0)
            if reason := _reasons(record).get(kind):
                unread.setdefault(kind, {})[str(reason)] = None
    return EnergyFacts(
        steps=checkpoint.step,
        recorded=path.is_file(),
        used={
            kind: Used(joules[kind] / JOULES_PER_KWH, steps[kind]) for kind in KINDS if steps[kind]
        },
        unread={kind: tuple(reasons) for kind, reasons in unread.items()},
    )


def _records(path: Path, last_step: int) -> Iterator[Mapping[str, Any]]:
    lines = path.read_text("utf-8", "replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
            step, begins = int(record["step"]), "steps" not in record
        except (ValueError, TypeError, KeyError):
            continue  # a line cut short by a kill
        # A start at the checkpoint's own step says what was read afterwards.
        if step < last_step or (step == last_step and not begins):
            yield record


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None


def _reasons(record: Mapping[str, Any]) -> Mapping[str, Any]:
    reasons = record.get("unread")
    return reasons if isinstance(reasons, Mapping) else {}
