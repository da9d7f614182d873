"""Everything that wants a GPU, in one command: numerics first, then times, in eight minutes.

    python -m benchmarks.gpu --out DIR           # on one GPU
    python -m benchmarks.gpu --out DIR --tiny    # the same on small tensors, under the interpreter

Each part is a script of this folder in a process of its own, with its share of the time; what is
not done by then is left out and named. Where the kernels are not as exact as they must be nothing
is timed. DIR gets each part's JSON and its output, and `gpu.json` and `gpu.md` over all of them.
Without a GPU it runs as with ``--tiny``, and says so; no time of that means anything.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

FOLDER = Path(__file__).parent
SECONDS = 480.0
"""For everything together."""
QUERY = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
TINY_NOTE = "Run without a GPU, on small tensors: only counts and errors mean something here."


@dataclass(frozen=True, kw_only=True)
class Part:
    """A script and the most that it may take."""

    name: str
    script: str
    seconds: float
    tiny: tuple[str, ...] = ()
    """Its options where there is no GPU."""
    full: tuple[str, ...] = ()
    """Its options on one."""
    interpreted: bool = False
    """Whether it needs the interpreter where there is no GPU."""


PARTS = (
    Part(name="numerics", script="kernels_numerics.py", seconds=60, interpreted=True),
    Part(
        name="timed",
        script="kernels_timed.py",
        seconds=130,
        tiny=("--tiny",),
        full=("--seconds", "100"),
        interpreted=True,
    ),
    Part(name="step", script="step.py", seconds=200, tiny=("--tiny",), full=("--seconds", "90")),
    Part(name="input", script="input.py", seconds=60, tiny=("--tiny",), full=("--rounds", "2")),
    Part(name="launches", script="launches.py", seconds=60, full=("--check",), tiny=("--check",)),
    Part(
        name="compiled",
        script="kernels_compiled.py",
        seconds=60,
        tiny=("--check",),
        full=("--check",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a part."""

    name: str
    outcome: str
    """`done`, `failed` or `out of time`."""
    seconds: float
    found: dict[str, Any] = field(default_factory=dict)
    """Its JSON."""


def run_part(part: Part, out: Path, tiny: bool, seconds: float) -> Outcome:
    """Run a script, with its output beside its JSON."""
    path, began = out / f"{part.name}.json", time.perf_counter()
    options = part.tiny if tiny else part.full
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    environment.pop("TRITON_INTERPRET", None)
    if tiny:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment |= {"TRITON_INTERPRET": "1"} if part.interpreted else {}
    command = [sys.executable, str(FOLDER / part.script), *options, "--out", str(path)]
    with (out / f"{part.name}.txt").open("w") as output:
        try:
            code = subprocess.run(
                command,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            ).returncode
            outcome = "failed" if code else "done"
        except subprocess.TimeoutExpired:
            outcome = "out of time"
    found = json.loads(path.read_text()) if path.exists() else {}
    taken = time.perf_counter() - began
    return Outcome(name=part.name, outcome=outcome, seconds=taken, found=found)


def run_parts(out: Path, tiny: bool, most_seconds: float) -> list[Outcome]:
    """All parts that fit, one after another; none after kernels that are wrong."""
    began, found = time.perf_counter(), []
    for part in PARTS:
        left = most_seconds - (time.perf_counter() - began)
        if left <= 0:
            found.append(Outcome(name=part.name, outcome="out of time", seconds=0.0))
            continue
        # Without a GPU the interpreter is slow and nothing waits: only the whole is bounded.
        outcome = run_part(part, out, tiny, left if tiny else min(left, part.seconds))
        found.append(outcome)
        print(f"{part.name}: {outcome.outcome} after {outcome.seconds:.0f} s", flush=True)
        if part.name == "numerics" and outcome.outcome != "done":
            print("the kernels are not as exact as they must be: nothing is timed", file=sys.stderr)
            break
    return found


def gpu_now() -> str | None:
    """Name, driver, clocks, power and temperature as nvidia-smi tells them, or None."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def numerics_table(found: Mapping[str, Any]) -> list[str]:
    """Errors of every case as a share of what is allowed, greatest first."""
    results = sorted(found["results"], key=_share_of_budget, reverse=True)
    rows = [
        (
            r["case"],
            r["result"],
            f"{r['error']:.1e}",
            f"{r['eager_error']:.1e}",
            f"{r['budget']:.1e}",
        )
        for r in results[:10]
    ]
    met = sum(r["met"] for r in results)
    title = f"### Errors against float64: {met} of {len(results)} results within their budget"
    header = ("the ten nearest to it", "result", "kernel errs", "eager errs", "allowed")
    return [title, "", *table(header, rows)]


def _share_of_budget(result: Mapping[str, Any]) -> float:
    return result["error"] / result["budget"] if result["budget"] else 0.0


def timed_table(found: Mapping[str, Any]) -> list[str]:
    """Median microseconds of each candidate, and ours against the copy and the best other."""
    ratios, rows = found["ratios"], []
    names = sorted({name for op in found["operations"].values() for name in op["seconds"]})
    for operation, values in found["operations"].items():
        medians = {n: f"{1e6 * median(s):,.1f}" for n, s in values["seconds"].items()}
        shown = [
            f"{ratios[f'{kind}: {operation}']['median']:.2f}"
            if f"{kind}: {operation}" in ratios
            else ""
            for kind in ("share of copy bandwidth", "best other / ours", "eager / ours")
        ]
        megabytes = f"{values['needed_bytes'] / 1e6:,.1f}"
        rows.append((operation, megabytes, *(medians.get(name, "") for name in names), *shown))
    bandwidth = found["copy_bytes_per_second"]
    measured = f"a copy moves {bandwidth / 1e12:.2f} TB/s" if bandwidth else "no GPU"
    header = (
        "median us",
        "MB needed",
        *names,
        "share of copy",
        "best other / ours",
        "eager / ours",
    )
    lines = [f"### Times on {found['device']} ({measured})", "", *table(header, rows)]
    return lines + ([f"{found['left_out']} operations left out.", ""] if found["left_out"] else [])


def step_table(found: Mapping[str, Any]) -> list[str]:
    """Triples a second of each trainer, and what is claimed of them."""
    rows = []
    for name, seen in found["workloads"].items():
        rates = {arm: f"{1 / median(seconds):,.1f}" for arm, seconds in seen["seconds"].items()}
        ratios = {r.partition(": ")[2]: v for r, v in found["ratios"].items() if name in r}
        shown = [
            f"{ratios[kind]['median']:.2f}" if kind in ratios else ""
            for kind in ("plain / ours", "lightly / ours", "MFU")
        ]
        rows.append((name, *(rates.get(arm, "") for arm in ("ours", "plain", "lightly")), *shown))
    header = ("triples/s", "ours", "plain", "lightly", "plain / ours", "lightly / ours", "MFU")
    return [f"### A step on {found['device']}", "", *table(header, rows)]


def input_table(found: Mapping[str, Any]) -> list[str]:
    """Milliseconds of one core, and what a GPU waits for."""
    seconds = found["seconds_per_sample"].items()
    rows = [(name, f"{1e3 * median(taken):.3f}") for name, taken in seconds]
    if found["gpu"] is not None:
        rows.append(("share of a step that waits for data", f"{found['gpu']['stall_share']:.1%}"))
    return ["### Input", "", *table(("two-view sample", "ms of one core"), rows)]


def launches_table(found: Mapping[str, Any]) -> list[str]:
    """Counts of each part of a step."""
    rows = [
        (name, str(c["operators"]), str(c["triton_launches"]), f"{c['saved_bytes']:,}")
        for name, c in found["costs"].items()
    ]
    header = ("part", "operators", "Triton launches", "bytes saved for the backward pass")
    return ["### Launches", "", *table(header, rows)]


def compiled_table(found: Mapping[str, Any]) -> list[str]:
    """Registers of each kernel by GPU."""
    rows = []
    for name, by_gpu in found["kernels"].items():
        spilled = str(sum(b["spilled_bytes"] for b in by_gpu.values()))
        rows.append((name, *(str(b["registers"]) for b in by_gpu.values()), spilled))
    gpus = next(iter(found["kernels"].values()))
    return ["### Registers a thread", "", *table(("kernel", *gpus, "bytes spilled"), rows)]


TABLES = {
    "numerics": numerics_table,
    "timed": timed_table,
    "step": step_table,
    "input": input_table,
    "launches": launches_table,
    "compiled": compiled_table,
}


def page(outcomes: Sequence[Outcome], machine: Mapping[str, Any], tiny: bool) -> str:
    """The Markdown over all parts."""
    lines = [f"## {machine['gpu'] or 'No GPU'}", "", f"torch {machine['torch']}.", ""]
    if tiny:
        lines += [TINY_NOTE, ""]
    rows = [(o.name, o.outcome, f"{o.seconds:.0f}") for o in outcomes]
    lines += table(("part", "outcome", "seconds"), rows)
    for outcome in outcomes:
        if outcome.found:
            lines += TABLES[outcome.name](outcome.found)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is found")
    parser.add_argument("--tiny", action="store_true", help="small tensors, under the interpreter")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for everything together")
    options = parser.parse_args(arguments)
    tiny = options.tiny or not torch.cuda.is_available()
    if tiny:
        print(TINY_NOTE)
    options.out.mkdir(parents=True, exist_ok=True)
    machine = {"gpu": None if tiny else gpu_now(), "torch": torch.__version__, "tiny": tiny}
    outcomes = run_parts(options.out, tiny, options.seconds)
    record = machine | {"gpu_after": None if tiny else gpu_now()}
    record["parts"] = {outcome.name: asdict(outcome) for outcome in outcomes}
    (options.out / "gpu.json").write_text(json.dumps(record, indent=1) + "\n")
    (options.out / "gpu.md").write_text(page(outcomes, machine, tiny))
    print(f"written: {options.out / 'gpu.md'}")
    return 0 if all(o.outcome == "done" for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
