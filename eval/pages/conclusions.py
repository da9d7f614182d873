"""A comparison of runs in words: what follows from each table, and what to know beside it."""

from collections.abc import Mapping, Sequence

from eval.pages.compare_runs import TaskTable, Verdict
from eval.pages.others_table import LINEAR
from eval.probes.probe_report import metric_heading

WORDS: Mapping[Verdict, str] = {
    "better": "better: the difference exceeds its interval",
    "worse": "worse: the difference exceeds its interval",
    "within": "not told apart: the difference lies within its interval",
    "uncorrected": "not told apart: the difference exceeds its interval, but not once the number "
    "of runs is corrected for",
    "open": "no verdict",
    "unlike": "not comparable",
}


def heading(table: TaskTable) -> str:
    """Task and method, what is told, and over what it is the mean: by run where they differ."""
    over: dict[str, list[str]] = {}
    for run, answer in table.answers.items():
        over.setdefault(answer.over, []).append(run)
    means = [
        what if len(over) == 1 else f"{what} ({', '.join(runs)})" for what, runs in over.items()
    ]
    return f"{title(table)}: {metric_heading(table.metric)}, mean over {'; '.join(means)}"


def title(table: TaskTable) -> str:
    """The task, and the method where it is not the linear probe."""
    return table.name if table.method == LINEAR else f"{table.name}, {table.method}"


def untold(alone: Mapping[str, Sequence[str]]) -> str:
    """What one run alone was scored on; empty where there is nothing."""
    each = [f"{run} was scored on {', '.join(what)}" for run, what in alone.items()]
    return f"Alone, and so not compared: {'; '.join(each)}." if each else ""


def conclusions(table: TaskTable) -> dict[str, str]:
    """By pair of runs what differs and what does not; by run why it is left out."""
    told: dict[str, dict[str, list[str]]] = {}
    for name, differences in table.differences.items():
        first = table.runs_with(name)[0]
        for run, found in differences.items():
            what = WORDS[found.verdict] + (f" ({found.reason})" if found.reason else "")
            told.setdefault(f"{run} against {first}", {}).setdefault(what, []).append(name)
    joined = {
        pair: ". ".join(f"{what}: {', '.join(names)}" for what, names in by_verdict.items())
        for pair, by_verdict in told.items()
    }
    return joined | dict(table.left_out)


def remarks(table: TaskTable) -> list[str]:
    """Runs that hold the same weights, then what each run's report has found."""
    weights: dict[str, list[str]] = {}
    for run, answer in table.answers.items():
        weights.setdefault(answer.checkpoint["digest"], []).append(run)
    same = [
        f"{', '.join(runs)}: the very same weights ({digest[:12]})"
        for digest, runs in weights.items()
        if len(runs) > 1
    ]
    return same + [
        f"{run}: {sentence}"
        for run, answer in table.answers.items()
        for sentence in answer.findings
    ]
