"""How long a checkpoint holds training up, written in the background or while training waits.

One rank trains a plain network of some tens of millions of parameters with AdamW and a target
network, by the real engine. `stall` is how long the call holds training up; `added` is all that a
checkpoint costs: the stall, and what the steps until it is whole take longer than others. Without
a GPU, writing in the background takes its processor time from training.

    OMP_NUM_THREADS=1 python benchmarks/checkpoint.py --check
"""

import argparse
import copy
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from interleaved import RESULTS, Spread, Target, exit_code, report, versions
from plain_net import PlainNet
from safetensors.torch import save_file

from launch.rendezvous import free_port
from pretrain import ema
from pretrain.checkpoint import CheckpointConfig, CheckpointWriter, OneRank, Progress, Write
from pretrain.engine import Engine, EngineSettings, join_process_group, leave_process_group
from pretrain.optim import OptimConfig, build_optimizer

WIDTH = 3072
NUM_LAYERS = 3
MIN_GAIN = 3.0
"""How many times shorter the stall in the background is to be."""


class Loop:
    """Training without data: an optimizer step, its target, and what a checkpoint holds."""

    def __init__(self, samples: int) -> None:
        torch.manual_seed(0)
        online = PlainNet(WIDTH, NUM_LAYERS)
        target = copy.deepcopy(online)
        self.num_parameters = sum(parameter.numel() for parameter in online.parameters())
        settings = EngineSettings(
            micro_samples=samples,
            accumulation_steps=1,
            max_gradient_norm=1.0,
            precision="fp32",
            zero_stage=1,
        )
        self._engine = Engine(online, build_optimizer(online, OptimConfig()), settings)
        self._target = ema.Target(target.to(self._engine.device), 0.99, 1000)
        self._rows = torch.randn(samples, WIDTH, device=self._engine.device)
        self._step = 0

    def step(self) -> float:
        """One step; its seconds."""
        began = time.perf_counter()
        self._engine.backward(self._engine.forward(self._rows))
        assert self._engine.step()
        self._target.set_pace(self._step)
        self._target.update(self._engine.master_fragments())
        self._step += 1
        return time.perf_counter() - began

    def parts(self) -> list[Callable[[], Write]]:
        """What a run writes: online and optimizer state, target state, the target's network."""
        return [self._engine.snapshot, self._target.snapshot, self._snapshot_network]

    def _snapshot_network(self) -> Write:
        state = self._target.network.state_dict()
        copies = {name: value.to("cpu", copy=True) for name, value in state.items()}
        return lambda folder: save_file(copies, folder / "network.safetensors")


def measure(loop: Loop, run: Path, how: str, steps: int) -> dict[str, float]:
    """A checkpoint between plain steps, in seconds.

    Returns:
        step: Median of plain steps just before. stall: What the call took. added: All that the
        checkpoint cost. whole: From the call until it was committed.
    """
    plain = median(loop.step() for _ in range(steps))
    writer = CheckpointWriter(run, OneRank(), CheckpointConfig(write=how))  # pyright: ignore
    began = time.perf_counter()
    writer.save(Progress(1, 1), loop.parts())
    stall = time.perf_counter() - began
    taken = 0
    while not writer.poll():
        loop.step()
        taken += 1
    whole = time.perf_counter() - began
    writer.close()
    return {"step": plain, "stall": stall, "added": whole - taken * plain, "whole": whole}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="plain steps before each checkpoint")
    parser.add_argument("--samples", type=int, default=512, help="of one step")
    parser.add_argument("--folder", type=Path, help="where to write; else a temporary folder")
    parser.add_argument("--check", action="store_true", help="exit 1 where the target is missed")
    parser.add_argument("--out", type=Path, default=RESULTS / "checkpoint.json")
    options = parser.parse_args()
    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    join_process_group()
    loop = Loop(options.samples)
    seen: dict[str, list[dict[str, float]]] = {"blocking": [], "background": []}
    size_bytes = 0
    for turn in range(options.rounds + 1):
        for how in sorted(seen, reverse=bool(turn % 2)):
            run = Path(tempfile.mkdtemp(dir=options.folder))
            found = measure(loop, run, how, options.steps)
            size_bytes = sum(p.stat().st_size for p in run.rglob("*") if p.is_file())
            shutil.rmtree(run)
            if turn:
                seen[how].append(found)
    leave_process_group()
    return exit_code(tell(seen, loop.num_parameters, size_bytes, options.out), options.check)


def tell(
    seen: dict[str, list[dict[str, float]]], num_parameters: int, size_bytes: int, out: Path
) -> bool:
    """Print the table and write the JSON; whether the target is met."""
    print(f"{num_parameters / 1e6:.1f} M parameters, a checkpoint of {size_bytes / 1e6:.0f} MB")
    ratios = {}
    for how, rounds in seen.items():
        seconds = {name: Spread.of([found[name] for found in rounds]).show() for name in rounds[0]}
        print(f"{how:<11}" + "  ".join(f"{name} {text} s" for name, text in seconds.items()))
        for name in ("stall", "added"):
            steps = [found[name] / found["step"] for found in rounds]
            ratios[f"{name}, in steps: {how}"] = Spread.of(steps)
    pairs = zip(seen["blocking"], seen["background"], strict=True)
    gain = "stall: blocking / background"
    ratios[gain] = Spread.of([slow["stall"] / fast["stall"] for slow, fast in pairs])
    content = {
        "versions": versions("torch", "deepspeed", "safetensors"),
        "threads": torch.get_num_threads(),
        "parameters": num_parameters,
        "megabytes": size_bytes / 1e6,
        "seconds": seen,
    }
    return report(out, content, ratios, [Target(ratio=gain, least=MIN_GAIN)])


if __name__ == "__main__":
    sys.exit(main())
