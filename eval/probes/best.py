"""The best checkpoint of a run, by a rule on validation scores. Test scores are not looked at.

What is named depends on which reports there are, never on the order in which they came.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from eval.probes.probe_report import ProbeReport, linear_protocol
from eval.records import Json, to_json_text
from pretrain.checkpoint import CheckpointError, open_checkpoint
from pretrain.health.verdict import load_verdict

BEST_FILE = "best.json"
BEST_FORMAT = 1
RULE = (
    "highest macro-F1 on the validation parts (where the label is a number: 1 minus the mean "
    "absolute error as a share of the label's range): mean over splits, then over tasks; of each "
    "task the fused features count, or the mean of its modalities where nothing fused was probed; "
    "of equals the earlier; only checkpoints that are still there, whose run had not collapsed, "
    "and that were probed on every task in one way"
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A probed checkpoint.

    Attributes:
        name: Of its folder.
        step: Optimizer steps behind it.
        digest: Names its very weights.
        by_task: `validation_score` of each task that it was probed on.
        score: Mean over the tasks; None where it is left out.
        left_out: Why it cannot be the best; None where it can.
    """

    name: str
    step: int
    digest: str
    by_task: Mapping[str, float]
    score: float | None
    left_out: str | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """All candidates, and the best of them.

    Attributes:
        tasks: What every candidate must be probed on.
        candidates: By step.
        best: None where all are left out.
    """

    tasks: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    best: Candidate | None

    def to_json(self) -> Json:
        """As ``best.json`` holds it."""
        return {"format": BEST_FORMAT, "rule": RULE, **asdict(self)}

    def sentence(self) -> str:
        """The best one and its score, or why there is none."""
        if self.best is None or self.best.score is None:
            reasons = Counter(candidate.left_out for candidate in self.candidates)
            told = "; ".join(f"{count} {reason}" for reason, count in reasons.items())
            return f"no best checkpoint yet: {told or 'none was probed'}"
        places = ", ".join(self.tasks)
        return (
            f"best checkpoint: {self.best.name}, validation score {100 * self.best.score:.1f} % "
            f"({places}; of {sum(one.left_out is None for one in self.candidates)} checkpoints)"
        )


def choose_best(
    reports: Sequence[ProbeReport],
    tasks: Sequence[str],
    unfit: Mapping[str, str | None],
) -> Choice:
    """Apply the rule.

    Args:
        reports: Of any checkpoints of a run, at most one for each of them and task.
        tasks: Names of the tasks that must be reported; none: all that any report is of.
        unfit: By digest, for each checkpoint that is there: why it cannot be given out, or None.
    """
    names = tuple(sorted(set(tasks) or {report.task["name"] for report in reports}))
    counted = [report for report in reports if report.task["name"] in names]
    alike = {name: _usual_way(counted, name) for name in names}
    by_checkpoint: dict[tuple[int, str], dict[str, ProbeReport]] = {}
    for report in counted:
        key = (int(report.checkpoint["step"]), str(report.checkpoint["digest"]))
        by_checkpoint.setdefault(key, {})[report.task["name"]] = report
    candidates = tuple(
        _candidate(found, names, alike, unfit) for _, found in sorted(by_checkpoint.items())
    )
    scored = [one for one in candidates if one.score is not None]
    best = max(scored, key=lambda one: (one.score, -one.step), default=None)
    return Choice(tasks=names, candidates=candidates, best=best)


def read_checkpoints(run: Path) -> dict[str, tuple[str, str | None]]:
    """Digest of each whole checkpoint by its name, and why it is unfit to be given out, or None."""
    found: dict[str, tuple[str, str | None]] = {}
    for folder in sorted((run / "checkpoints").glob("step-????????")):
        try:
            digest = open_checkpoint(folder, verify=False).digest
            verdict = load_verdict(folder)
        except (CheckpointError, OSError):
            continue  # broken, or removed while we look
        except ValueError as error:
            found[folder.name] = digest, str(error)
            continue
        fit = verdict is None or verdict.fit_to_publish
        found[folder.name] = digest, None if fit else "the run had collapsed"
    return found


def validation_score(report: ProbeReport) -> float | None:
    """What counts of one report, in [0, 1]: see `RULE`.

    None where it was made before validation scores were kept.
    """
    means = {}
    for name, part in report.subsets.items():
        if marks := part.pretrained.validation_macro_f1:
            means[name] = fmean(marks)
        elif errors := part.pretrained.validation_mae:
            low, high = report.task["label_range"]
            means[name] = 1.0 - fmean(errors) / (high - low)
    return means.get("fused", fmean(means.values()) if means else None)


def _candidate(
    found: Mapping[str, ProbeReport],
    names: Sequence[str],
    alike: Mapping[str, str],
    unfit: Mapping[str, str | None],
) -> Candidate:
    checkpoint = next(iter(found.values())).checkpoint
    scores = {name: validation_score(found[name]) for name in names if name in found}
    by_task = {name: score for name, score in scores.items() if score is not None}
    missing = [name for name in names if name not in found]
    unlike = [name for name in found if way(found[name]) != alike[name]]
    left_out = None
    if checkpoint["digest"] not in unfit:
        left_out = "no longer there"
    elif (reason := unfit[checkpoint["digest"]]) is not None:
        left_out = reason
    elif missing:
        left_out = f"not probed on {', '.join(missing)}"
    elif unlike:
        left_out = f"probed otherwise than most on {', '.join(sorted(unlike))}"
    elif len(by_task) < len(names):
        without = ", ".join(name for name in names if name not in by_task)
        left_out = f"without validation scores on {without}: probe it again"
    return Candidate(
        name=checkpoint["name"],
        step=int(checkpoint["step"]),
        digest=checkpoint["digest"],
        by_task=by_task,
        score=fmean(by_task.values()) if left_out is None else None,
        left_out=left_out,
    )


def _usual_way(reports: Sequence[ProbeReport], task: str) -> str:
    """How most checkpoints were probed on a task; of equally many, as the latest one was."""
    of_task = [report for report in reports if report.task["name"] == task]
    counts = Counter(map(way, of_task))
    ranked = sorted(of_task, key=lambda one: (counts[way(one)], one.checkpoint["step"], way(one)))
    return way(ranked[-1]) if ranked else ""


def way(report: ProbeReport) -> str:
    """All that must be equal for two scores of a task to be compared."""
    protocol = linear_protocol(report.protocol)
    asked = {"card": report.task, "shards": report.shards["digest"], "protocol": protocol}
    return to_json_text(asked)
