"""What a sample of two views costs the CPU: all views made there, or only what a GPU cannot do.

Processor time of one core, by stage and end to end, at 224 pixels with BYOL's changes. "crops and
draws" is all that a run with a GPU leaves to the CPU: loader workers decode, cut and change texts,
the rank draws random numbers. The peers are torchvision's transforms on PIL pictures. Goal: at
most 2.5 ms for the picture. With a GPU also: the share of a step that waits for data.

    python benchmarks/input.py --check
    python benchmarks/input.py --tiny          # few samples, few rounds: only that it runs
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from generated_media import write_media
from input_arms import VIEWS, Ours, Peer, processor_seconds, with_grain
from input_stall import Stall, measure_stall
from interleaved import (
    RESULTS,
    Spread,
    Target,
    exit_code,
    print_seconds,
    ratio_of,
    report,
    take_turns,
    versions,
)

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats

GOAL_SECONDS = 0.0025
GOAL = "2.5 ms / picture, crops and draws"
RATIOS = {
    "picture: all on the CPU / crops and draws": ("picture, all on the CPU", 5.0),
    "picture: PIL, pillow's blur / crops and draws": ("picture, PIL, pillow's blur", 3.0),
    "picture: PIL, 23 taps / crops and draws": ("picture, PIL, 23 taps", 10.0),
}


def candidates(ours: Ours) -> dict[str, Callable[[], float]]:
    """Stages, our paths and the peers', each giving seconds of a sample."""
    runs = ours.stages() | {
        "picture, crops and draws": ours.picture_cropped,
        "picture, all on the CPU": ours.picture_changed,
        "picture, PIL, pillow's blur": partial(Peer("pillow"), ours.pictures),
        "picture, PIL, 23 taps": partial(Peer("torchvision"), ours.pictures),
        "triple, crops and draws": ours.triple_cropped,
        "triple, all on the CPU": ours.triple_changed,
    }
    return {name: processor_seconds(run, ours.count) for name, run in runs.items()}


def ratios_of(seconds: dict[str, list[float]]) -> dict[str, Spread]:
    """How much more the others take."""
    least = "picture, crops and draws"
    found = {name: ratio_of(seconds, slower, least) for name, (slower, _) in RATIOS.items()}
    found["triple: all on the CPU / crops and draws"] = ratio_of(
        seconds, "triple, all on the CPU", "triple, crops and draws"
    )
    found[GOAL] = Spread.of([GOAL_SECONDS / taken for taken in seconds[least]])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=256, help="generated")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=14, help="of the loader, with a GPU")
    parser.add_argument("--tiny", action="store_true", help="few samples, few rounds")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--out", type=Path, default=RESULTS / "input.json")
    options = parser.parse_args()
    if options.tiny:
        options.samples, options.batch, options.rounds = 32, VIEWS.audio.mixup_group, 1
    torch.set_num_threads(1)  # per core: workers have one thread each
    with tempfile.TemporaryDirectory() as scratch:
        corpus, shards = Path(scratch) / "corpus", Path(scratch) / "shards"
        corpus.mkdir()
        write_media(corpus, options.samples, with_grain)
        shard_corpus(corpus, shards, ShardingConfig(samples_per_shard=64))
        compute_stats(shards, StatsConfig())
        seconds = take_turns(candidates(Ours(shards, options.batch)), options.rounds)
        stall = None
        if torch.cuda.is_available():
            stall = measure_stall(shards, torch.device("cuda", 0), Stall(workers=options.workers))
    print_seconds(seconds, "ms")
    if stall is None:
        print("no GPU here: what share of a step waits for data was not measured")
    else:
        print(f"data stall: {stall['stall_share']:.1%} of a step on {stall['device']}")
    content = {
        "versions": versions("torch", "torchvision", "pillow", "numpy"),
        "views": asdict(VIEWS),
        "seconds_per_sample": seconds,
        "gpu": stall,
    }
    targets = [Target(ratio=name, least=least) for name, (_, least) in RATIOS.items()]
    targets.append(Target(ratio=GOAL, least=1.0))
    return exit_code(report(options.out, content, ratios_of(seconds), targets), options.check)


if __name__ == "__main__":
    sys.exit(main())
