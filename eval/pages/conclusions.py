"""A comparison of runs in words: what follows from each table, and what to know beside it."""

from collections.abc import Mapping

from eval.pages.compare_runs import TaskTable, Verdict
from eval.probes.probe_report import metric_heading, repeats

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
    """The task, what is told of it, and over what it is the mean: by run where they differ."""
    over: dict[str, list[str]] = {}
    for run, report in table.reports.items():
        over.setdefault(repeats(report), []).append(run)
    means = [
        what if len(over) == 1 else f"{what} ({', '.join(runs)})" for what, runs in over.items()
    ]
    return f"{table.name}: {metric_heading(table.metric)}, mean over {'; '.join(means)}"


def conclusions(table: TaskTable) -> dict[str, str]:
    """By pair of runs what differs and what does not; by run why it is left out."""
    told: dict[str, dict[str, list[str]]] = {}
    for subset, differences in table.differences.items():
        first = table.runs_with(subset)[0]
        for run, found in differences.items():
            what = WORDS[found.verdict] + (f" ({found.reason})" if found.reason else "")
            told.setdefault(f"{run} against {first}", {}).setdefault(what, []).append(subset)
    joined = {
        pair: ". ".join(f"{what}: {', '.join(subsets)}" for what, subsets in by_verdict.items())
        for pair, by_verdict in told.items()
    }
    return joined | dict(table.left_out)


def remarks(table: TaskTable) -> list[str]:
    """Runs that hold the same weights, then what each run's probe has found."""
    weights: dict[str, list[str]] = {}
    for run, report in table.reports.items():
        weights.setdefault(report.checkpoint["digest"], []).append(run)
    same = [
        f"{', '.join(runs)}: the very same weights ({digest[:12]})"
        for digest, runs in weights.items()
        if len(runs) > 1
    ]
    return same + [
        f"{run}: {sentence}"
        for run, report in table.reports.items()
        for sentence in report.findings
    ]
