"""What the target network costs at each ZeRO stage: time, collectives, bytes, memory.

Two gloo ranks train a plain network with AdamW and its target by the real engine, a stage after
the other in each round. Three things are told of every stage and precision:

- `ema`: what the target's update takes, as a share of the optimizer's step and of the whole step;
- `collectives`, and the bytes that a rank sends on a ring, against the floor: gradients are
  reduced and weights gathered once, and the target is gathered once where no rank holds it whole
  (at stages 1 and 2 DeepSpeed reduces gradients to all ranks, where a part for each would do);
- `memory`: bytes of all tensors of a rank after a step, by parameter, against the
  formula in `pretrain.memory`.

    OMP_NUM_THREADS=1 python benchmarks/zero.py --check

Counts are exact on any machine; of the times only the shares mean something on a CPU.
"""

import argparse
import copy
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from interleaved import RESULTS, Spread, Target, exit_code, report, versions
from plain_net import PlainNet
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from launch.local import run_ranks
from pretrain import ema
from pretrain.engine import Engine, EngineSettings, join_process_group, leave_process_group
from pretrain.memory import NetworkSizes, Sharing, kept_bytes
from pretrain.optim import OptimConfig, build_optimizer

RANKS = 2
WIDTH, NUM_LAYERS, SAMPLES = 768, 6, 64
CASES = tuple(product((0, 1, 2, 3), ("fp32", "bf16")))
RING_SHARE = (RANKS - 1) / RANKS
SENT = {"allreduce": 2 * RING_SHARE, "broadcast": RING_SHARE}
"""Share of its largest tensor that a rank sends in a collective; `RING_SHARE` for the others."""
MOST_BYTES, MOST_MEMORY = 1.5, 1.02
"""How many times the floor a step may send; how many times the formula a rank may hold."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One stage and precision, as one rank saw it."""

    seconds: dict[str, list[float]]
    """Of the forward and backward pass, the optimizer's step, the target's update."""
    collectives: int
    """Of one step."""
    sent_bytes: float
    """Of one step."""
    memory_bytes: int
    parameters: int


class Traffic(TorchDispatchMode):
    """Counts the collectives that are called within it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.sent_bytes = 0, 0.0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        if func.namespace == "c10d":
            leaves = tree_leaves((args, kwargs))
            sizes = [leaf.nbytes for leaf in leaves if isinstance(leaf, Tensor)]
            name = func._schema.name.partition("::")[2].strip("_")
            share = next((SENT[kind] for kind in SENT if name.startswith(kind)), RING_SHARE)
            self.calls += 1
            self.sent_bytes += share * max(sizes, default=0)
        return func(*args, **(kwargs or {}))


class Loop:
    """Training without data at one stage and precision."""

    def __init__(self, stage: Literal[0, 1, 2, 3], precision: Literal["fp32", "bf16"]) -> None:
        torch.manual_seed(0)
        online = PlainNet(WIDTH, NUM_LAYERS)
        network = copy.deepcopy(online)
        self.parameters = sum(parameter.numel() for parameter in online.parameters())
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        settings = EngineSettings(
            micro_samples=SAMPLES,
            accumulation_steps=1,
            max_gradient_norm=1.0,
            precision=precision,
            zero_stage=stage,
        )
        self._engine = Engine(online, build_optimizer(online, OptimConfig()), settings)
        shared_out = None if self._engine.replicated else self._engine.master_fragments()
        self._target = ema.Target(network, 0.99, 1000, self.dtype, shared_out)
        self._rows = torch.randn(SAMPLES, WIDTH).to(self.dtype)

    def step(self) -> Iterator[tuple[str, float]]:
        """One step; the seconds of its parts."""
        began = time.perf_counter()
        self._engine.backward(self._engine.forward(self._rows))
        yield "passes", time.perf_counter() - began
        began = time.perf_counter()
        assert self._engine.step()
        yield "optimizer", time.perf_counter() - began
        began = time.perf_counter()
        self._target.set_pace(0)
        self._target.update(self._engine.master_fragments())
        yield "ema", time.perf_counter() - began

    def close(self) -> None:
        """Let go of everything."""
        self._engine.close()


def work(out: Path, rounds: int) -> None:
    """One rank: every case in every round, then the first rank writes what it saw."""
    join_process_group()
    found: dict[str, Case] = {}
    for turn in range(rounds):
        for stage, precision in CASES[:: -1 if turn % 2 else 1]:
            name = f"stage {stage} {precision}"
            case = see(stage, precision)
            if name in found:
                for part, seconds in found[name].seconds.items():
                    seconds += case.seconds[part]
            else:
                found[name] = case
    if torch.distributed.get_rank() == 0:
        out.write_text(json.dumps({name: asdict(case) for name, case in found.items()}))
    leave_process_group()


def see(stage: Literal[0, 1, 2, 3], precision: Literal["fp32", "bf16"]) -> Case:
    """Counts of the third step, seconds of five more."""
    before = tensor_bytes()
    loop = Loop(stage, precision)
    for _ in range(2):
        dict(loop.step())
    with Traffic() as traffic:
        dict(loop.step())
    seconds: dict[str, list[float]] = {"passes": [], "optimizer": [], "ema": []}
    for _ in range(5):
        for part, taken in loop.step():
            seconds[part].append(taken)
    memory = tensor_bytes() - before
    loop.close()
    return Case(
        seconds=seconds,
        collectives=traffic.calls,
        sent_bytes=traffic.sent_bytes,
        memory_bytes=memory,
        parameters=loop.parameters,
    )


def tensor_bytes() -> int:
    """Bytes of all storages that a tensor of this process holds."""
    gc.collect()
    tensors = [found for found in gc.get_objects() if type(found) in (Tensor, nn.Parameter)]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def floor_bytes(stage: int, precision: str, parameters: int) -> float:
    """What a step has to send: see the module's text."""
    width = 2 if precision == "bf16" else 4
    target_is_shared_out = stage == 3 or (stage > 0 and precision == "bf16")
    return (2 + target_is_shared_out) * RING_SHARE * width * parameters


def needed_memory(stage: Literal[0, 1, 2, 3], precision: Literal["fp32", "bf16"]) -> float:
    """Bytes by parameter after a step, as `pretrain.memory` has them."""
    sharing = Sharing(zero_stage=stage, precision=precision, ranks=RANKS)
    return kept_bytes(NetworkSizes(online=1, target=1), sharing).total


def tell(found: dict[str, Any], out: Path) -> bool:
    """Print the table, write the JSON; whether the targets are met."""
    ratios, least = {}, []
    print(
        f"{'':<13} collectives   sent / floor   memory / formula (B a parameter)   EMA / optimizer"
    )
    for (stage, precision), (name, case) in zip(CASES, found.items(), strict=True):
        seconds, parameters = case["seconds"], case["parameters"]
        floor = floor_bytes(stage, precision, parameters)
        sent = case["sent_bytes"] / floor
        memory, needed = case["memory_bytes"] / parameters, needed_memory(stage, precision)
        parts = list(zip(*seconds.values(), strict=True))
        share = Spread.of([average / step for _, step, average in parts])
        whole = Spread.of([average / (passes + step + average) for passes, step, average in parts])
        print(
            f"{name:<13} {case['collectives']:>11} {sent:>14.2f} {memory:>12.1f} / {needed:<16.1f}"
            f" {share.show()}"
        )
        ratios[f"ema / optimizer: {name}"] = share
        ratios[f"ema / step: {name}"] = whole
        ratios[f"floor / sent: {name}"] = Spread.of([floor / case["sent_bytes"]])
        ratios[f"formula / memory: {name}"] = Spread.of([needed / memory])
        least.append(Target(ratio=f"floor / sent: {name}", least=0.999 / MOST_BYTES))
        least.append(Target(ratio=f"formula / memory: {name}", least=1 / MOST_MEMORY))
    content = {"versions": versions("torch", "deepspeed"), "ranks": RANKS, "cases": found}
    return report(out, content, ratios, least)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--out", type=Path, default=RESULTS / "zero.json")
    parser.add_argument("--rank-writes", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_writes is not None:
        work(options.rank_writes, options.rounds)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen.json"
        own = [sys.executable, __file__, "--rounds", str(options.rounds)]
        if code := run_ranks([*own, "--rank-writes", str(seen)], RANKS):
            return code
        found = json.loads(seen.read_text())
    in_order = {f"stage {stage} {precision}": None for stage, precision in CASES}
    return exit_code(tell({name: found[name] for name in in_order}, options.out), options.check)


if __name__ == "__main__":
    sys.exit(main())
