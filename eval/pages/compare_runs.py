"""Several runs beside each other: scores on the tasks they share, and which differences count.

The first run is what the others are compared with. Differences of one representation are corrected
for the number of runs by Holm's method; over representations, methods and tasks nothing is
corrected.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from eval.pages.paired_reports import LEVEL, Paired, holm, pair, why_not_comparable
from eval.pages.run_answers import RunAnswers, Which, read_answers
from eval.pages.run_record import ScoredRun, read_scores
from eval.pages.scored import Answer, command, lacking, rank
from eval.probes.contamination import DATA_FILE
from eval.probes.probe_report import metric_heading
from eval.records import flatten, read_json

Verdict = Literal["better", "worse", "within", "uncorrected", "open", "unlike"]
NOT_RECORDED = "(not recorded)"
OWN = ("run",)
"""Of a run's configuration: what differs between any two runs."""
Key = tuple[str, str, str]
"""Task, method and metric: of one name, a task with another metric is another task."""
Having = Mapping[Key, Mapping[str, Answer]]
"""Every answer, by run."""


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
    """One task, by one method, on one metric.

    Attributes:
        name: Of the task.
        method: What scored: see `eval.pages.scored`.
        metric: What decides.
        answers: By run; the first is what the others are compared with.
        left_out: Runs that have no task of that name by that method: what to do.
        names: Representations that two or more runs have; there is one or more.
        differences: By representation, then by run; the first of a representation has none.
    """

    name: str
    method: str
    metric: str
    answers: Mapping[str, Answer]
    left_out: Mapping[str, str]
    names: tuple[str, ...]
    differences: Mapping[str, Mapping[str, Difference]]

    def runs_with(self, name: str) -> list[str]:
        """Runs that scored a representation; the first is compared with."""
        return [run for run, answer in self.answers.items() if name in answer.scored]


@dataclass(frozen=True, kw_only=True)
class RunsComparison:
    """All that two or more of the runs were scored on.

    Attributes:
        runs: Name of each, and its folder as it was given.
        which: Which checkpoint of each counts.
        tables: By task, then by method: the linear probe first, fine-tuning last. A task of one
            name that is scored by two metrics has a table for each.
        alone: By run: tasks and methods that are compared with no other run's, and why.
        changed: Options and data that differ: by name, the value of each run in order.
        num_recorded_by_some: Options that are in the records of some of the runs alone, which were
            written by another version, and do not differ among those.
    """

    runs: Mapping[str, str]
    which: Which
    tables: tuple[TaskTable, ...]
    alone: Mapping[str, tuple[str, ...]]
    changed: Mapping[str, tuple[str, ...]]
    num_recorded_by_some: int


def compare_runs(
    runs: Sequence[Path], task: str | None = None, which: Which = "best"
) -> RunsComparison:
    """Compare runs by the reports in their folders; nothing is measured.

    Args:
        runs: Folders; the others are compared with the first.
        task: The one task to compare on; None: all that two or more share.
        which: Each run's best checkpoint by validation scores (`eval.probes.best`), or for each
            task the newest that was probed, and the newest that was fine-tuned.

    Raises:
        ValueError: Fewer than two runs, one given twice, one without probes or without a best
            checkpoint, or no task in common.
    """
    names = _names(runs)
    records = {name: read_scores(run) for name, run in names.items()}
    found = {name: read_answers(records[name], run, which) for name, run in names.items()}
    shared, alone = _shared(found, task)
    described = [_described(record, names[name]) for name, record in records.items()]
    options = dict.fromkeys(name for one in described for name in one)
    values = {name: [one.get(name) for one in described] for name in options}
    return RunsComparison(
        runs={name: str(run) for name, run in names.items()},
        which=which,
        tables=tuple(_table(key, answers, found) for key, answers in shared.items()),
        alone=alone,
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


def _shared(
    found: Mapping[str, RunAnswers], task: str | None
) -> tuple[Having, dict[str, tuple[str, ...]]]:
    """What is compared, in the order of the tables; then, by run, what is not.

    Raises:
        ValueError: Nothing is compared.
    """
    having: dict[Key, dict[str, Answer]] = {}
    for run, answers in found.items():
        for name, methods in answers.found.items():
            for method, answer in methods.items():
                having.setdefault((name, method, answer.metric), {})[run] = answer
    chosen = [key for key in having if task in (None, key[0])]
    shared: dict[Key, dict[str, Answer]] = {}
    alone: dict[str, tuple[str, ...]] = {}
    for key in sorted(chosen, key=lambda key: (key[0], rank(key[1]))):
        names = {*_common(having[key])}
        for run, answer in having[key].items():
            if names & {*answer.scored}:
                shared.setdefault(key, {})[run] = answer
            else:
                alone[run] = (*alone.get(run, ()), _told(key, run, having))
    if shared:
        return shared, alone
    each = "; ".join(
        f"{run}: {', '.join(_told(key, run, having) for key in having if run in having[key])}"
        for run in found
    )
    what = "no task" if task is None else f"no task named {task!r}"
    raise ValueError(
        f"{what} that two of the runs were probed on, or fine-tuned on, alike ({each}); probe "
        "one on a task of another: triptych probe RUN TASK"
    )


def _common(answers: Mapping[str, Answer]) -> tuple[str, ...]:
    """Representations that two or more have."""
    counts = Counter(name for answer in answers.values() for name in answer.scored)
    return tuple(name for name, count in counts.items() if count > 1)


def _told(key: Key, run: str, having: Having) -> str:
    """What a run was scored on and how; and what else hinders that others are compared with it."""
    name, method, metric = key
    scored = having[key][run].scored
    others = [one for of, by, one in having if (of, by) == (name, method) and one != metric]
    if len(having[key]) > 1 and not {*_common(having[key])} & {*scored}:
        why = f"; {', '.join(scored)} alone, which no other run has"
    elif others:
        theirs = " and ".join(map(metric_heading, others))
        why = f"; scored by {metric_heading(metric)}: another task than that scored by {theirs}"
    else:
        why = ""
    return f"{name} ({method}{why})"


def _table(key: Key, answers: Mapping[str, Answer], found: Mapping[str, RunAnswers]) -> TaskTable:
    name, method, metric = key
    names = _common(answers)
    return TaskTable(
        name=name,
        method=method,
        metric=metric,
        answers=answers,
        left_out={
            run: f"{lacking(method)}: {command(method, each.place, 'TASK')}"
            for run, each in found.items()
            if each.of(name, method) is None
        },
        names=names,
        differences={one: _differences(answers, one) for one in names},
    )


def _differences(answers: Mapping[str, Answer], name: str) -> dict[str, Difference]:
    """Of all runs with the representation against the first of them."""
    have = {run: answer for run, answer in answers.items() if name in answer.scored}
    (of_first, first), *others = have.items()
    unlike = {run: why_not_comparable(answer, first, name) for run, answer in others}
    seen = {
        run: f"pretraining of {run} has seen {told}" if (told := answer.seen(name)) else ""
        for run, answer in have.items()
    }
    paired = {
        run: _withhold(
            pair(answer.card, answer.scored[name], first.scored[name]), seen[of_first] or seen[run]
        )
        for run, answer in others
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


def _described(record: ScoredRun, run: Path) -> dict[str, str]:
    """Options of a run, and the digests of what it was trained on."""
    options = {name: value for name, value in flatten(record.config) if name not in OWN}
    path = run / DATA_FILE
    if path.is_file():
        sets: Any = read_json(path).get("sets")
        if isinstance(sets, list):
            digests = [str(one.get("digest"))[:12] for one in sets if isinstance(one, dict)]
            options["sets trained on, by digest"] = ", ".join(digests)
    return {name: str(value) for name, value in options.items()}
