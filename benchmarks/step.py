"""A whole optimizer step: triples a second and model FLOP utilisation, beside two other trainers.

    python benchmarks/step.py --check

`ours` is the trainer's own step on DeepSpeed's engine, from views on the device to the updated
target; `plain` the same model, loss and optimizer written by hand (autocast, SDPA, compiled
encoders, fused AdamW, foreach EMA); `lightly` the same encoders with lightly's heads, loss and
momentum update, as its example has them. One round takes a block of steps of each, in turn. The
losses of `ours` and `plain` must agree from the same weights.

On one GPU: ViT-S and ViT-B at 224 pixels and the towers of recipe `large`, in bf16, with torch's
compiler, and MFU: counted FLOPs of matrix products and attention over the measured time and the
measured rate of a large bf16 product. On a CPU: a small model in fp32, of which only ratios mean
something. lightly is installed with

    pip install --no-deps lightly==1.6.0 lightly_utils==0.0.2
"""

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from interleaved import (
    RESULTS,
    Spread,
    Target,
    exit_code,
    print_seconds,
    ratio_of,
    report,
    time_rounds,
    versions,
)
from step_arms import ARMS, Arm
from step_work import ON_GPU, Workload, on_cpu
from torch.utils.flop_counter import FlopCounterMode

from launch.rendezvous import rendezvous
from pretrain.engine import join_process_group, leave_process_group
from pretrain.engine.process_group import DEVICE

PARITY_STEPS = 10
PARITY = {"fp32": 1e-3, "bf16": 3e-2}
"""How far losses of ours and plain may be apart, relative; in bf16 the weights are rounded."""
MATMUL_SIDE = 8192
LARGE_BATCH, LEAST_MFU = 64, 0.40
PEERS = ("plain", "lightly")
GOALS = {
    ("plain", "cuda", 256): 1.0,
    ("plain", "cuda", 32): 1.15,
    ("lightly", "cpu", 16): 1 / 1.02,
}
"""The least ratio by peer, device and batch."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one workload showed."""

    seconds: dict[str, list[float]]
    """Of a triple, by arm, a value for each round."""
    parity: float
    """Greatest relative difference between the losses of ours and plain."""
    flops: float
    """Of a triple: matrix products and attention of a whole step."""
    matmul_flops_per_second: float | None
    """Of a large bf16 product on this GPU."""


def measure(workload: Workload, rounds: int, steps: int) -> Found:
    """Parity of the losses, FLOPs, then times, with all arms on the same views."""
    views = workload.views(DEVICE)
    arms = {name: make(workload, views) for name, make in ARMS.items() if here(name)}
    parity = max(apart(arms["ours"](step), arms["plain"](step)) for step in range(PARITY_STEPS))
    first = PARITY_STEPS
    with FlopCounterMode(display=False) as counter:
        ARMS["plain"](replace(workload, compiled=False), views)(first)
    runs = {name: partial(block, arm, workload.samples, first, steps) for name, arm in arms.items()}
    return Found(
        seconds=time_rounds(runs, rounds),
        parity=parity,
        flops=counter.get_total_flops() / workload.samples,
        matmul_flops_per_second=matmul_rate() if DEVICE.type == "cuda" else None,
    )


def here(arm: str) -> bool:
    """Whether an arm can be run; a peer that is not installed is said to be left out."""
    if arm != "lightly" or importlib.util.find_spec("lightly") is not None:
        return True
    print("lightly is not installed: left out", file=sys.stderr)
    return False


def apart(one: float, other: float) -> float:
    """Relative difference."""
    return abs(one - other) / abs(other)


def block(arm: Arm, samples: int, first: int, steps: int) -> int:
    """Some steps of one arm; how many triples they took."""
    for step in range(first, first + steps):
        arm(step)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return steps * samples


def matmul_rate() -> float:
    """FLOPs a second of a bf16 product of two square matrices, the median of some."""
    one, other = (
        torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=DEVICE, dtype=torch.bfloat16) for _ in range(2)
    )
    taken = []
    for _ in range(20):
        torch.cuda.synchronize()
        began = time.perf_counter()
        torch.mm(one, other)
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return 2.0 * MATMUL_SIDE**3 / median(taken)


def tell(workload: Workload, found: Found) -> tuple[dict[str, Spread], list[Target]]:
    """Ratios of a workload, and what is claimed of them."""
    print(f"\n{workload.name}: {found.flops / 1e9:.1f} GFLOP a triple")
    print_seconds(found.seconds, "ms")
    name, ratios, targets = workload.name, {}, []
    for peer in PEERS:
        ratio = f"{name}: {peer} / ours"
        if peer in found.seconds:
            ratios[ratio] = ratio_of(found.seconds, peer, "ours")
        if (least := GOALS.get((peer, DEVICE.type, workload.samples))) is not None:
            targets.append(Target(ratio=ratio, least=least))
    if found.matmul_flops_per_second is not None:
        ceiling = found.matmul_flops_per_second
        shares = [found.flops / s / ceiling for s in found.seconds["ours"]]
        ratios[f"{name}: MFU"] = Spread.of(shares)
        if workload.samples >= LARGE_BATCH:
            targets.append(Target(ratio=f"{name}: MFU", least=LEAST_MFU))
    ratios[f"{name}: parity allowed / seen"] = Spread.of(
        [PARITY[workload.precision] / max(found.parity, 1e-12)]
    )
    targets.append(Target(ratio=f"{name}: parity allowed / seen", least=1.0))
    return ratios, targets


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count")
    parser.add_argument("--steps", type=int, default=4, help="steps of an arm in a round")
    parser.add_argument("--tiny", action="store_true", help="four triples, one step a round")
    parser.add_argument("--seconds", type=float, default=600.0, help="no workload is begun after")
    parser.add_argument("--out", type=Path, default=RESULTS / "step.json")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.rounds = options.steps = 1
    on_gpu = DEVICE.type == "cuda"
    if not on_gpu:
        print("no GPU here: a small model in fp32; only ratios mean something")
    os.environ |= rendezvous().environment()
    join_process_group()
    began, found, ratios, targets = time.perf_counter(), {}, {}, []
    for workload in ON_GPU if on_gpu else (on_cpu(4 if options.tiny else 16),):
        if time.perf_counter() - began > options.seconds:
            print(f"out of time: {workload.name} is left out", file=sys.stderr)
            continue
        seen = measure(workload, options.rounds, options.steps)
        more, claims = tell(workload, seen)
        found[workload.name], ratios, targets = seen, ratios | more, targets + claims
    leave_process_group()
    content = {
        "versions": versions("torch", "deepspeed", "lightly"),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "workloads": {name: asdict(seen) for name, seen in found.items()},
    }
    print()
    return exit_code(report(options.out, content, ratios, targets), options.check)


if __name__ == "__main__":
    sys.exit(main())
