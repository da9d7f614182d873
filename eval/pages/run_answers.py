"""What of a run is compared: what each method scored of the checkpoint that counts, by task."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.finetune.report import FineTuneReport
from eval.pages.run_record import ScoredRun
from eval.pages.scored import TUNED, Answer, probe_answers, tuned_answer

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
            answer = tuned_answer(report, _contamination(record, report))
            found.setdefault(report.task["name"], {})[TUNED] = answer
    place = run if best is None else run / "checkpoints" / best.name
    return RunAnswers(place=str(place), found=found)


def _contamination(record: ScoredRun, tuned: FineTuneReport) -> Mapping[str, Any]:
    """By a probe of the run on these shards: all its checkpoints saw the same sets.

    The newest that looked counts, of the tuned checkpoint itself where one did; where none did,
    the newest, which says why.
    """
    probes = [
        one
        for one in reversed(record.probes)
        if one.task["name"] == tuned.task["name"] and one.shards["digest"] == tuned.shards["digest"]
    ]
    looked = [one for one in probes if one.contamination.get("checked")]
    own = [one for one in looked if one.checkpoint["digest"] == tuned.checkpoint["digest"]]
    return next((one.contamination for one in (*own, *looked, *probes)), {})
