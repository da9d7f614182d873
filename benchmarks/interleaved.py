"""What every benchmark here does: interleaved rounds, medians with spread, ratios, JSON, a check.

Candidates take turns within each round, so that a busy machine slows them alike; a ratio is the
median of the rounds' own ratios.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, smallest and largest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(median=median(values), low=min(values), high=max(values))

    def show(self, digits: int = 2) -> str:
        """As in ``5.31 (5.02 to 5.60)``."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A stated claim: the ratio's median is at least `least`."""

    ratio: str
    least: float


def time_rounds(candidates: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Seconds per item of each candidate in each round, after one round that is not counted.

    Args:
        candidates: Name -> a run that returns how many items it did.
        rounds: Rounds that count.
    """

    def timed(run: Callable[[], int]) -> float:
        began = time.perf_counter()
        items = run()
        return (time.perf_counter() - began) / items

    return take_turns({name: partial(timed, run) for name, run in candidates.items()}, rounds)


def take_turns(
    candidates: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, list[float]]:
    """Like `time_rounds`, for runs that return their own seconds per item."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for turn in range(rounds + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken = candidates[name]()
            if turn:
                seconds[name].append(taken)
    return seconds


def ratio_of(seconds: Mapping[str, Sequence[float]], slower: str, faster: str) -> Spread:
    """How many times `faster` is as fast as `slower`, round by round."""
    pairs = zip(seconds[slower], seconds[faster], strict=True)
    return Spread.of([slow / fast for slow, fast in pairs])


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, the machine's kind and some packages."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def print_seconds(seconds: Mapping[str, Sequence[float]], unit: str = "us") -> None:
    """One line a candidate: median and spread of the time for one item."""
    scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
    for name, values in seconds.items():
        print(f"{name:<28} {Spread.of([scale * value for value in values]).show()} {unit}")


def report(
    path: Path,
    content: Mapping[str, object],
    ratios: Mapping[str, Spread],
    targets: Sequence[Target],
) -> bool:
    """Prints the ratios beside their targets and writes the JSON; returns whether all are met.

    A target whose ratio is not there is missed.
    """
    met = True
    least = {target.ratio: target.least for target in targets}
    for name, ratio in ratios.items():
        goal = least.get(name)
        good = goal is None or ratio.median >= goal
        met &= good
        verdict = "" if goal is None else f"   target {goal:g}: {'met' if good else 'MISSED'}"
        print(f"{name:<44} {ratio.show()}{verdict}")
    for name in least.keys() - ratios.keys():
        met = False
        print(f"{name:<44} not measured   target {least[name]:g}: MISSED")
    record = {
        **content,
        "ratios": {name: asdict(ratio) for name, ratio in ratios.items()},
        "targets": least,
        "met": met,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {path}")
    return met


def exit_code(met: bool, check: bool) -> int:
    """What a script ends with: 1 where a checked target is missed."""
    if check and not met:
        print("a stated target is missed", file=sys.stderr)
        return 1
    return 0
