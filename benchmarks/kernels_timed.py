"""How fast are the fused kernels beside plain torch, and beside the memory that they go over?

    python benchmarks/kernels_timed.py --check                     # on a GPU
    TRITON_INTERPRET=1 python benchmarks/kernels_timed.py --tiny   # runs everything once, anywhere

Each operation by eager torch, by its foreach and fused operators, by torch.compile and by our
kernel, in turns. The bytes that the operation cannot do without, over the time it took, are
set beside the bandwidth of a plain copy on the same GPU. Without a GPU the kernels cannot be timed:
then only eager torch and foreach are, and of ``--tiny`` no time means anything.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from interleaved import RESULTS, Spread, Target, exit_code, ratio_of, report, take_turns, versions
from kernels_candidates import operations
from kernels_candidates_pictures import KORNIA
from kernels_operation import COMPILED, FUSED, ON_CPU, ON_GPU, TINY, Operation, Run

COPY_BYTES = 1 << 30
LEAST_SHARE = 0.85
"""Least share of the copy bandwidth that EMA and AdamW + EMA must reach."""
ENOUGH_SECONDS = 0.02
"""How long a candidate runs in a round, at least."""


def targets_of(names: Sequence[str]) -> list[Target]:
    """What is claimed of a GPU."""
    found = [Target(ratio=f"best other / ours: {n}", least=1.3) for n in names if "mixed" in n]
    flat = [name for name in names if "flat" in name]
    found += [Target(ratio=f"share of copy bandwidth: {n}", least=LEAST_SHARE) for n in flat]
    launched = [name for name in names if name.startswith(("loss", "pictures"))]
    found += [Target(ratio=f"eager / ours: {name}", least=10.0) for name in launched]
    pictures = [name for name in names if name.startswith("pictures")]
    return found + [Target(ratio=f"{KORNIA} / ours: {name}", least=5.0) for name in pictures]


def seconds_on_gpu(run: Run) -> float:
    """Of one call, by events around as many calls as take `ENOUGH_SECONDS`."""
    calls = 1
    while True:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        began.record()
        for _ in range(calls):
            run()
        ended.record()
        torch.cuda.synchronize()
        taken = began.elapsed_time(ended) / 1e3
        if taken >= ENOUGH_SECONDS:
            return taken / calls
        calls = calls * 4 if taken < ENOUGH_SECONDS / 8 else calls * 2


def seconds_on_cpu(run: Run) -> float:
    """Of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def copy_bandwidth() -> float:
    """Bytes a second that a copy reads and writes: the best of five."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / min(seconds_on_gpu(lambda: target.copy_(source)) for _ in range(5))


def candidates_of(operation: Operation, on_gpu: bool, tiny: bool) -> dict[str, Run]:
    """Those that can run here."""
    left_out = set() if on_gpu else {COMPILED} if tiny else {COMPILED, FUSED}
    return {name: run for name, run in operation.candidates.items() if name not in left_out}


def time_operation(
    operation: Operation, on_gpu: bool, tiny: bool, rounds: int
) -> dict[str, list[float]]:
    """Seconds of a call of each candidate, in turns, after one round that warms up."""
    clock: Callable[[Run], float] = seconds_on_gpu if on_gpu else seconds_on_cpu

    def timed(run: Run) -> Callable[[], float]:
        return lambda: clock(run)

    candidates = candidates_of(operation, on_gpu, tiny)
    return take_turns({name: timed(run) for name, run in candidates.items()}, rounds)


def ratios_of(
    operation: Operation, seconds: dict[str, list[float]], bandwidth: float | None
) -> dict[str, Spread]:
    """Ours against the others and against a copy; none where there is no GPU."""
    if bandwidth is None:
        return {}
    ours = seconds[FUSED]
    others = [values for name, values in seconds.items() if name != FUSED]
    best = [min(row) / own for *row, own in zip(*others, ours, strict=True)]
    eager = [other / own for other, own in zip(seconds["eager"], ours, strict=True)]
    shares = [operation.needed_bytes / own / bandwidth for own in ours]
    known = {}
    if KORNIA in seconds:
        known[f"{KORNIA} / ours: {operation.name}"] = ratio_of(seconds, KORNIA, FUSED)
    return known | {
        f"best other / ours: {operation.name}": Spread.of(best),
        f"eager / ours: {operation.name}": Spread.of(eager),
        f"share of copy bandwidth: {operation.name}": Spread.of(shares),
    }


def tell(operation: Operation, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Print an operation's candidates; its part of the record."""
    megabytes = operation.needed_bytes / 1e6
    print(f"{operation.name}: {operation.tensors} tensors, {megabytes:,.1f} MB needed")
    for name, values in seconds.items():
        spread = Spread.of([1e6 * value for value in values])
        print(f"    {name:<16} {spread.show()} us, {megabytes / spread.median:,.3f} TB/s")
    return {
        "needed_bytes": operation.needed_bytes,
        "tensors": operation.tensors,
        "entries": operation.entries,
        "seconds": seconds,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=1e9, help="begin no operation after so many"
    )
    parser.add_argument("--tiny", action="store_true", help="small tensors, on a CPU")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--out", type=Path, default=RESULTS / "kernels_timed.json")
    options = parser.parse_args(arguments)
    on_gpu = torch.cuda.is_available() and not options.tiny
    if options.tiny and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("--tiny runs the kernels on a CPU: set TRITON_INTERPRET=1")
    if not on_gpu:
        print("no GPU is used: of our kernels nothing is timed that means anything")
    bandwidth = copy_bandwidth() if on_gpu else None
    record: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if on_gpu else "CPU",
        "versions": versions("torch", "triton"),
        "copy_bytes_per_second": bandwidth,
        "left_out": 0,
        "operations": {},
    }
    ratios: dict[str, Spread] = {}
    rounds = 1 if options.tiny else options.rounds
    began = time.perf_counter()
    sizes = ON_GPU if on_gpu else TINY if options.tiny else ON_CPU
    makers = operations("cuda" if on_gpu else "cpu", sizes)
    for number, make in enumerate(makers):
        if time.perf_counter() - began > options.seconds:
            print(f"out of time: {len(makers) - number} operations are left out")
            record["left_out"] = len(makers) - number
            break
        operation = make()
        seconds = time_operation(operation, on_gpu, options.tiny, rounds)
        record["operations"][operation.name] = tell(operation, seconds)
        ratios |= ratios_of(operation, seconds, bandwidth)
    targets = targets_of(list(record["operations"])) if on_gpu else []
    met = report(options.out, record, ratios, targets)
    return exit_code(met and not record["left_out"], options.check)


if __name__ == "__main__":
    sys.exit(main())
