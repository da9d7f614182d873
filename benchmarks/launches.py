"""What a step launches and keeps: operators, Triton launches, bytes saved for the backward pass.

    python benchmarks/launches.py --check

Of the loss of all pairs, of pictures' changes, of LARS, and of a small BYOL step part by part,
with the plain twins and with the kernels. An operator is one that computes (views and allocations
are free); on a GPU it is a launch or more. The kernels run under Triton's interpreter, so all
numbers are the same on every machine with the same torch. ``--check`` exits with 1 where one is
above its limit.
"""

import argparse
import copy
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # triton looks when it is imported

# isort: split
import torch
from interleaved import RESULTS, versions
from kernels_counted import Cost, cost_of
from kernels_launches import layers_costs, pictures_costs
from torch import Tensor
from torch.utils._pytree import tree_leaves

from data_sharding.logmel import LogMelConfig
from data_sharding.stats import CorpusStats
from pretrain import ema
from pretrain.fragments import whole
from pretrain.kernels import Kernels, using
from pretrain.loss import all_pairs_loss, weighted_loss
from pretrain.models import (
    AudioConfig,
    Backbone,
    BackboneConfig,
    FusionConfig,
    HeadConfig,
    ImageConfig,
    TextConfig,
    Views,
)
from pretrain.objectives import Byol, ByolConfig
from pretrain.optim import OptimConfig, build_optimizer

PAIRS, BATCH, EMBED = 10, 64, 128
TOWERS = BackboneConfig(
    text=TextConfig(hidden_size=32, num_layers=1, num_heads=2, max_tokens=16),
    image=ImageConfig(size_pixels=32, width=32, num_layers=1, num_heads=2, patch_pixels=8),
    audio=AudioConfig(width=8, embed_dim=32, clip_seconds=1.0),
    fusion=FusionConfig(embed_dim=32),
)

LIMITS = {
    "loss float32, fused": {"launches": 2, "saved_bytes": 655_360},
    "weighted loss float32, fused": {"launches": 2, "saved_bytes": 655_360},
    "loss bfloat16, fused": {"launches": 2, "saved_bytes": 327_680},
    "weighted loss bfloat16, fused": {"launches": 2, "saved_bytes": 327_680},
    "weighted loss float32, reference": {"launches": 36, "saved_bytes": 700_000},
    "EMA of a step, fused": {"launches": 1},
    "EMA of a step, reference": {"launches": 1},
    "optimizer of a step, fused": {"launches": 8},
    "views of 4 pictures, fused": {"launches": 2},
    "LARS of 30 layers, fused": {"launches": 2},
    "step, fused": {"launches": 450, "saved_bytes": 3_100_000},
    "step, reference": {"launches": 480, "saved_bytes": 3_100_000},
}
"""The most that may be launched and kept. 655,360 bytes is the gradient of all predictions."""


def loss_costs(dtype: torch.dtype) -> dict[str, Cost]:
    """Losses and their gradient; weighted: with the sum over pairs that is minimised."""
    torch.manual_seed(0)
    shape = (PAIRS, 2, BATCH, EMBED)
    predictions = torch.randn(shape, dtype=dtype, requires_grad=True)
    projections = torch.randn(shape, dtype=dtype)
    rows, weights, one = torch.full((PAIRS, BATCH), 1 / BATCH), torch.rand(PAIRS), torch.ones(())
    arguments = (predictions, projections, rows, weights, one)

    def by_pair() -> None:
        losses = all_pairs_loss(predictions, projections, rows)
        torch.autograd.grad(losses, predictions, weights)

    def weighted() -> None:
        total, _ = weighted_loss(predictions, projections, rows, weights)
        torch.autograd.grad(total, predictions, one)

    found, name = {}, str(dtype).removeprefix("torch.")
    for kernels in ("reference", "fused"):
        with using(kernels):
            by_pair()  # the first launch of a process makes a counter
            found[f"loss {name}, {kernels}"] = cost_of(by_pair, arguments)
            found[f"weighted loss {name}, {kernels}"] = cost_of(weighted, arguments)
    return found


def small_views(batch: int = 8) -> Views:
    """Two views of random samples that lack nothing."""
    present = torch.ones(batch, 3, dtype=torch.bool)
    return Views(
        token_ids=torch.randint(5, 50, (2, batch, 16)),
        token_mask=torch.ones(2, batch, 16, dtype=torch.bool),
        image=torch.rand(2, batch, 3, 32, 32),
        log_mel=torch.randn(2, batch, 64, 32),
        present=present,
        subset=present.expand(2, -1, -1).clone(),
        complete=True,
    )


def step_costs(kernels: Kernels) -> dict[str, Cost]:
    """A step of tiny towers in float32 on one rank, part by part, after one that is not counted."""
    torch.manual_seed(0)
    stats = CorpusStats(
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.2, 0.2, 0.2),
        mel_mean=0.0,
        mel_std=1.0,
        vocab_size=64,
        num_samples=8,
        log_mel=LogMelConfig(),
    )
    backbone = Backbone(TOWERS, stats, Path("tokenizer.json"))  # which nobody reads
    heads = HeadConfig(hidden_size=64, embed_dim=32, norm="layer")
    objective = Byol(ByolConfig(heads=heads))
    networks = objective.networks(backbone)
    optimizer = build_optimizer(networks.online, OptimConfig())
    target = ema.Target(copy.deepcopy(networks.target), 0.99, 100)
    views, scales = small_views(), torch.full((PAIRS,), 1 / 8)
    weights = objective.weights(50, 100)
    report: Any = None
    targets: Any = None

    def look() -> None:
        nonlocal targets
        targets = target.network(views)

    def forward() -> None:
        nonlocal report
        report = networks.online(views, targets, scales, weights)

    def follow() -> None:
        target.update(whole(networks.online.named_parameters()))

    parts: Mapping[str, Callable[[], object]] = {
        "pace": lambda: target.set_pace(0),
        "target": look,
        "online": forward,
        "backward": lambda: report.loss.backward(),
        "optimizer": optimizer.step,
        "EMA": follow,
    }
    known = [*networks.online.parameters(), *tree_leaves(vars(views))]
    tensors = [tensor for tensor in known if isinstance(tensor, Tensor)]
    with using(kernels):
        for run in parts.values():
            run()
        optimizer.zero_grad()
        return {name: cost_of(run, tensors) for name, run in parts.items()}


def all_costs() -> dict[str, Cost]:
    """Everything that is counted."""
    found = loss_costs(torch.float32) | loss_costs(torch.bfloat16)
    found |= pictures_costs() | layers_costs()
    for kernels in ("reference", "fused"):
        parts = step_costs(kernels)
        found |= {f"{name} of a step, {kernels}": cost for name, cost in parts.items()}
        kinds = [field.name for field in fields(Cost)]
        found[f"step, {kernels}"] = Cost(
            **{kind: sum(getattr(cost, kind) for cost in parts.values()) for kind in kinds}
        )
    return found


def excesses(found: Mapping[str, Cost]) -> list[str]:
    """What is above its limit."""
    return [
        f"{name}: {getattr(found[name], kind)} {kind}, more than {most}"
        for name, limits in LIMITS.items()
        for kind, most in limits.items()
        if getattr(found[name], kind) > most
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="exit 1 where a limit is passed")
    parser.add_argument("--out", type=Path, default=RESULTS / "launches.json")
    options = parser.parse_args(arguments)
    found = all_costs()
    print(f"{'':<32} operators   Triton launches   bytes saved for the backward pass")
    for name, cost in found.items():
        print(f"{name:<32} {cost.operators:>9} {cost.triton_launches:>17} {cost.saved_bytes:>12,}")
    record = {
        "versions": versions("torch", "triton"),
        "loss_shape": [PAIRS, 2, BATCH, EMBED],
        "costs": {name: asdict(cost) for name, cost in found.items()},
        "limits": LIMITS,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written: {options.out}")
    for line in excesses(found):
        print(line, file=sys.stderr)
    return 1 if excesses(found) and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
