"""All that a run writes about itself while it goes on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pretrain.metrics.sinks import JsonlSink, Lenient, Sinks, TerminalSink
from pretrain.metrics.tensorboard import TensorBoardSink

HEALTH_FILE = "health.jsonl"
ENERGY_FILE = "energy.jsonl"


class Journal:
    """``metrics.jsonl``, ``health.jsonl``, ``energy.jsonl``, ``tensorboard/`` and the terminal.

    What cannot be written, as on a full disk, is said once; training goes on.

    Args:
        run: The run folder.
        total_steps: Of the run.
        resumed_at: What was written of later steps, by a killed run, is dropped.
    """

    def __init__(self, run: Path, total_steps: int, resumed_at: int) -> None:
        views = run / "views" / "views.json"
        self._tensorboard = TensorBoardSink(run / "tensorboard", resumed_at, views)
        self._health = JsonlSink(run / HEALTH_FILE, resumed_at)
        self._energy = JsonlSink(run / ENERGY_FILE, resumed_at)
        metrics = JsonlSink(run / "metrics.jsonl", resumed_at)
        terminal = TerminalSink(total_steps, resumed_at)
        self._sinks = Sinks([metrics, self._tensorboard, terminal])
        self._leniently = Lenient("the record of health, energy or embeddings")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a logged step, everywhere."""
        self._sinks.write(step, values)

    def write_health(self, step: int, record: Mapping[str, Any]) -> None:
        """The record of a look; what is new in its verdict is said at once."""
        self._leniently(self._health.write, step, record)
        for sentence in record["news"]:
            print(f"step {step}: {sentence}", flush=True)

    def write_energy(self, step: int, record: Mapping[str, Any]) -> None:
        """Joules since the window began, or which counters could not be read."""
        self._leniently(self._energy.write, step, record)

    def write_embeddings(
        self,
        step: int,
        by_source: Mapping[str, tuple[Float[Tensor, "sample _"], Sequence[str]]],
    ) -> None:
        """A table per source (rows, samples' keys) for TensorBoard's embedding projector."""
        self._leniently(self._tensorboard.write_embeddings, step, by_source)

    def close(self) -> None:
        """Close every file."""
        self._sinks.close()
        self._leniently(self._health.close)
        self._leniently(self._energy.close)
