"""Several runs beside each other: scores on the tasks they share, and which differences count.

The first run is what the others are compared with. Differences of one representation are corrected
for the number of runs by Holm's method; over representations and tasks nothing is corrected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from eval.pages.paired_reports import LEVEL, Paired, holm, pair, why_not_comparable
from eval.pages.run_record import ProbedRun, read_probes
from eval.probes.contamination import DATA_FILE
from eval.probes.probe_report import ProbeReport
from eval.records import flatten, read_json

Which = Literal["best", "newest"]
Verdict = Literal["better", "worse", "within", "uncorrected", "open", "unlike"]
NOT_RECORDED = "(not recorded)"
OWN = ("run",)
"""Of a run's configuration: what differs between any two runs."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run against the first, in one representation.

    Attributes:
        paired: Gain over the first run; None where the two are not comparable.
        p_corrected: By Holm's method, over the runs; None without a verdict.
        verdict: What follows, in words in `eval.pages.conclusions`.
        reason: Why there is no verdict or no comparison; empty where there is one.
    """

    paired: Paired | None
    p_corrected: float | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class TaskTable:
    """One task.

    Attributes:
        name: Of the task.
        reports: By run; the first is what the others are compared with.
        left_out: Runs without a report, each with what to do.
        subsets: Representations that two or more runs have.
        differences: By representation, then by run; the first of a representation has none.
    """

    name: str
    reports: Mapping[str, ProbeReport]
    left_out: Mapping[str, str]
    subsets: tuple[str, ...]
    differences: Mapping[str, Mapping[str, Difference]]

    @property
    def metric(self) -> str:
        """What decides, by the card of the first run's report."""
        return next(iter(self.reports.values())).task["metric"]

    def runs_with(self, subset: str) -> list[str]:
        """Runs that probed a representation; the first is compared with."""
        return [name for name, report in self.reports.items() if subset in report.subsets]


@dataclass(frozen=True, kw_only=True)
class RunsComparison:
    """All tasks that two or more of the runs were probed on.

    Attributes:
        runs: Name of each, and its folder as it was given.
        which: Which checkpoint of each counts.
        tasks: By name.
        changed: Options and data that differ: by name, the value of each run in order.
        num_recorded_by_some: Options that are in the records of some of the runs alone, which were
            written by another version, and do not differ among those.
    """

    runs: Mapping[str, str]
    which: Which
    tasks: tuple[TaskTable, ...]
    changed: Mapping[str, tuple[str, ...]]
    num_recorded_by_some: int


def compare_runs(
    runs: Sequence[Path], task: str | None = None, which: Which = "best"
) -> RunsComparison:
    """Compare runs by the probe reports in their folders; nothing is probed.

    Args:
        runs: Folders; the others are compared with the first.
        task: The one task to compare on; None: all that two or more share.
        which: Each run's best checkpoint by validation scores (`eval.probes.best`), or for each
            task the newest that was probed.

    Raises:
        ValueError: Fewer than two runs, one given twice, one without probes or without a best
            checkpoint, or no task in common.
    """
    names = _names(runs)
    records = {name: read_probes(run) for name, run in names.items()}
    probed = {
        name: _reports(records[name], run, which) for name, run in names.items()
    }  # {run: {task: report}}
    shared = _shared_tasks(probed, task)
    described = [_described(record, names[name]) for name, record in records.items()]
    options = dict.fromkeys(name for one in described for name in one)
    values = {name: [one.get(name) for one in described] for name in options}
    return RunsComparison(
        runs={name: str(run) for name, run in names.items()},
        which=which,
        tasks=tuple(_task_table(name, probed, names) for name in shared),
        changed={
            name: tuple(NOT_RECORDED if value is None else value for value in found)
            for name, found in values.items()
            if len({*found} - {None}) > 1
        },
        num_recorded_by_some=sum(None in found and len({*found}) == 2 for found in values.values()),
    )


def _names(runs: Sequence[Path]) -> dict[str, Path]:
    """The shortest ends of the folders' paths that tell them apart."""
    if len(runs) < 2:
        raise ValueError("give two runs or more: the others are compared with the first")
    whole = [run.resolve() for run in runs]
    if len(set(whole)) < len(whole):
        raise ValueError(f"a run was given twice: {', '.join(map(str, runs))}")
    length = 1
    while len({path.parts[-length:] for path in whole}) < len(whole):
        length += 1
    return {"/".join(path.parts[-length:]): run for path, run in zip(whole, runs, strict=True)}


def _reports(record: ProbedRun, run: Path, which: Which) -> dict[str, ProbeReport]:
    """The report of each task that counts.

    Raises:
        ValueError: There is none, or no best checkpoint.
    """
    if not record.probes:
        raise ValueError(f"{run}: no checkpoint was probed; first: triptych probe {run} TASK")
    if which == "newest":
        return {report.task["name"]: report for report in record.probes}  # ascending by step
    best = record.choice.best
    if best is None:
        raise ValueError(
            f"{run}: {record.choice.sentence()}; compare its newest one: --checkpoint newest"
        )
    return {
        report.task["name"]: report
        for report in record.probes
        if report.checkpoint["digest"] == best.digest
    }


def _shared_tasks(probed: Mapping[str, Mapping[str, ProbeReport]], task: str | None) -> list[str]:
    counts: dict[str, int] = {}
    for reports in probed.values():
        for name in reports:
            counts[name] = counts.get(name, 0) + 1
    shared = sorted(name for name, count in counts.items() if count > 1)
    chosen = [name for name in shared if task is None or name == task]
    if chosen:
        return chosen
    each = "; ".join(f"{run}: {', '.join(reports)}" for run, reports in probed.items())
    what = "no task" if task is None else f"no task named {task!r}"
    raise ValueError(
        f"{what} that two of the runs were probed on ({each}); probe one on a task of another: "
        "triptych probe RUN TASK"
    )


def _task_table(
    name: str, probed: Mapping[str, Mapping[str, ProbeReport]], runs: Mapping[str, Path]
) -> TaskTable:
    reports = {run: found[name] for run, found in probed.items() if name in found}
    counts: dict[str, int] = {}
    for report in reports.values():
        for subset in report.subsets:
            counts[subset] = counts.get(subset, 0) + 1
    subsets = tuple(subset for subset, count in counts.items() if count > 1)
    return TaskTable(
        name=name,
        reports=reports,
        left_out={
            run: f"not probed on it: triptych probe {folder} TASK"
            for run, folder in runs.items()
            if run not in reports
        },
        subsets=subsets,
        differences={subset: _differences(reports, subset) for subset in subsets},
    )


def _differences(reports: Mapping[str, ProbeReport], subset: str) -> dict[str, Difference]:
    """Of all runs with the representation against the first of them."""
    have = {run: report for run, report in reports.items() if subset in report.subsets}
    (of_first, first), *others = have.items()
    unlike = {run: why_not_comparable(report, first, subset) for run, report in others}
    seen = {run: _seen(report, run) for run, report in have.items()}
    paired = {
        run: _withhold(pair(report, first, subset), seen[of_first] or seen[run])
        for run, report in others
        if not unlike[run]
    }
    corrected = dict(zip(paired, holm([found.p for found in paired.values()]), strict=True))
    made = {}
    for run, _ in others:
        if (reason := unlike[run]) is not None:
            made[run] = Difference(paired=None, p_corrected=None, verdict="unlike", reason=reason)
        else:
            made[run] = _judge(paired[run], corrected[run])
    return made


def _seen(report: ProbeReport, run: str) -> str:
    """Why the run's scores are no scores of unseen samples; empty where nothing says so."""
    found = report.contamination
    if not found.get("num_seen"):
        return ""
    return (
        f"pretraining of {run} has seen content of {found['num_seen']} of {found['num_tested']} "
        "test samples"
    )


def _withhold(paired: Paired, reason: str) -> Paired:
    return replace(paired, p=None, reason=reason) if reason else paired


def _judge(paired: Paired, corrected: float | None) -> Difference:
    verdict: Verdict = "within"
    if paired.p is None or corrected is None:
        verdict = "open"
    elif corrected < LEVEL:
        verdict = "better" if paired.gain.mean > 0.0 else "worse"
    elif paired.p < LEVEL:
        verdict = "uncorrected"
    return Difference(paired=paired, p_corrected=corrected, verdict=verdict, reason=paired.reason)


def _described(record: ProbedRun, run: Path) -> dict[str, str]:
    """Options of a run, and the digests of what it was trained on."""
    options = {name: value for name, value in flatten(record.config) if name not in OWN}
    path = run / DATA_FILE
    if path.is_file():
        sets: Any = read_json(path).get("sets")
        if isinstance(sets, list):
            digests = [str(one.get("digest"))[:12] for one in sets if isinstance(one, dict)]
            options["sets trained on, by digest"] = ", ".join(digests)
    return {name: str(value) for name, value in options.items()}
