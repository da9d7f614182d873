"""Where numbers go: a JSONL file, the terminal, and several places at once."""

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)


@runtime_checkable
class Sink(Protocol):
    """Takes the values of one logged step."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take ``values`` of optimizer step ``step`` (counted from 1)."""
        ...

    def close(self) -> None:
        """Finish; nothing is written after."""
        ...


class JsonlSink:
    """One JSON object a line, flushed at once.

    Args:
        path: File to append to.
        resumed_at: Lines of later steps, left by a killed run, are dropped first.
    """

    def __init__(self, path: Path, resumed_at: int) -> None:
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= resumed_at]
            # Whole or not at all: other ranks of a resumed run read it meanwhile.
            temporary = path.with_name(path.name + ".tmp")
            temporary.write_text("".join(line + "\n" for line in kept))
            temporary.replace(path)
        self._stream = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line; values are anything that JSON holds."""
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")  # a line cut short by a kill


class TerminalSink:
    """A progress bar with samples/s and time left on a terminal, plain lines elsewhere."""

    def __init__(self, total_steps: int, resumed_at: int) -> None:
        self._total = total_steps
        self._start = (time.monotonic(), resumed_at)
        self._bar = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("pretraining"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[state]}"), TimeRemainingColumn(),
            )  # fmt: skip
            self._bar = Progress(*columns)
            self._task = self._bar.add_task("", total=total_steps, completed=resumed_at, state="")
            self._bar.start()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Show the loss, the rate and the time left."""
        state = (
            f"loss {values['loss/total']:.4f}  {values['speed/samples_per_second']:.1f} samples/s"
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=step, state=state)
            return
        began, first = self._start
        left = (time.monotonic() - began) / (step - first) * (self._total - step)
        print(f"step {step}/{self._total}  {state}  {left:.0f} s left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


class Lenient:
    """Calls that may fail with an OSError, such as a full disk: it is said once, and that is all.

    A run is worth more than its curves. What fails is tried again every time.

    Args:
        name: What is written, for the message.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = False

    def __call__(self, write: Callable[..., None], *values: Any) -> None:  # noqa: ANN401
        """Do ``write(*values)``."""
        try:
            write(*values)
        except OSError as error:
            if not self._told:
                logger.warning(
                    "%s cannot be written: %s; training goes on without it", self._name, error
                )
            self._told = True


class Sinks:
    """Several sinks as one; one that fails with an OSError holds up neither run nor others."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = [(sink, Lenient(type(sink).__name__)) for sink in sinks]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Give ``values`` to every sink."""
        for sink, leniently in self._sinks:
            leniently(sink.write, step, values)

    def close(self) -> None:
        """Close every sink."""
        for sink, leniently in self._sinks:
            leniently(sink.close)
