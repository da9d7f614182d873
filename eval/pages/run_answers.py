"""What of a run is compared: what each method scored of the checkpoint that counts, by task."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.pages.run_record import ScoredRun
from eval.pages.scored import TUNED, Answer, probe_answers, tuned_answer
from eval.probes.probe_report import ProbeReport

Which = Literal["best", "newest"]


@dataclass(frozen=True, kw_only=True)
class RunAnswers:
    """One run.

    Attributes:
        place: What a command is given for more of it: the run, or its best checkpoint.
        found: By task, then by method.
    """

    place: str
    found: Mapping[str, Mapping[str, Answer]]

    def of(self, task: str, method: str) -> Answer | None:
        """The answer; None where there is none."""
        return self.found.get(task, {}).get(method)


def read_answers(record: ScoredRun, run: Path, which: Which) -> RunAnswers:
    """The answers that count.

    Args:
        record: What the run's folder holds.
        run: The folder.
        which: ``best``: of the checkpoint that validation scores choose; ``newest``: of the newest
            that the task was probed, or fine-tuned, on.

    Raises:
        ValueError: There is none, or no best checkpoint.
    """
    if which == "best" and record.probes and record.choice.best is None:
        raise ValueError(
            f"{run}: {record.choice.sentence()}; compare its newest one: --checkpoint newest"
        )
    if not record.probes and (which == "best" or not record.fine_tunes):
        raise ValueError(f"{run}: no checkpoint was probed; first: triptych probe {run} TASK")
    best = record.choice.best if which == "best" else None
    found: dict[str, dict[str, Answer]] = {}
    for report in record.probes:  # ascending by step: a later one replaces what is there
        if best is None or report.checkpoint["digest"] == best.digest:
            found[report.task["name"]] = probe_answers(report)
    for report in record.fine_tunes:
        if best is None or report.checkpoint["digest"] == best.digest:
            known = _contamination(record, report.task["name"], report.shards["digest"])
            found.setdefault(report.task["name"], {})[TUNED] = tuned_answer(report, known)
    place = run if best is None else run / "checkpoints" / best.name
    return RunAnswers(place=str(place), found=found)


def _contamination(record: ScoredRun, task: str, shards: str) -> Mapping[str, Any]:
    """By the newest probe of the run on these shards: all its checkpoints saw the same sets."""

    def of_these(report: ProbeReport) -> bool:
        return report.task["name"] == task and report.shards["digest"] == shards

    return next((one.contamination for one in reversed(record.probes) if of_these(one)), {})
