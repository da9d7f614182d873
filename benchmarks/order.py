"""The sample order at a billion samples: memory, time for a window, time to resume in epoch 5.

Targets: 200,000 shards of 5,000 samples each under 50 MB, under 1 ms for each window, and under
0.1 s from nothing to a batch of epoch 5. The shards are ragged: nearly each has a short block.

    python benchmarks/order.py --check
"""

import argparse
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
from interleaved import RESULTS, Spread, Target, exit_code, report, versions

from data_sharding.stream.order import LaneOrder, OrderConfig, Slice

NUM_SHARDS = 200_000
CONFIG = OrderConfig(block_samples=32, window_blocks=8, lanes=64)
GLOBAL_BATCH = 4096
WINDOWS = 2_000
LIMIT_MEGABYTES = 50.0
LIMIT_WINDOW_SECONDS = 1e-3
LIMIT_RESUME_SECONDS = 0.1


def ragged_shards() -> list[int]:
    """A billion samples in shards of 4,900 to 5,100."""
    sizes = np.random.default_rng(0).integers(4_900, 5_101, NUM_SHARDS)
    return sizes.tolist()


def peak_megabytes(sizes: list[int]) -> float:
    """Most memory that an order holds while it is made and used in two epochs."""
    tracemalloc.start()
    order = LaneOrder(sizes, CONFIG)
    for step in (0, sum(sizes) // GLOBAL_BATCH + 1):
        order.batch(step, Slice(global_batch=GLOBAL_BATCH))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def resume_seconds(sizes: list[int]) -> float:
    """From nothing to the first batch of epoch 5, the shards' sizes known."""
    order = LaneOrder(sizes, CONFIG)
    step = 5 * sum(sizes) // GLOBAL_BATCH + 2_000
    began = time.perf_counter()
    draws = order.batch(step, Slice(global_batch=GLOBAL_BATCH, rank=0, world_size=64))
    seconds = time.perf_counter() - began
    assert draws.epochs.max() == 5
    return seconds


def window_seconds(sizes: list[int]) -> tuple[float, float]:
    """Time for one window: the next one of a lane, and one anywhere in the epoch."""
    order = LaneOrder(sizes, CONFIG)
    window = CONFIG.block_samples * CONFIG.window_blocks
    order.draws(0, 0, 1)
    began = time.perf_counter()
    order.draws(0, 1, WINDOWS * window)
    following = (time.perf_counter() - began) / WINDOWS
    places = np.random.default_rng(1).integers(0, order.lane_samples(1, 0) - 1, WINDOWS).tolist()
    began = time.perf_counter()
    for place in places:
        order.draws(1, place, 1)
    return following, (time.perf_counter() - began) / WINDOWS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--out", type=Path, default=RESULTS / "order.json")
    options = parser.parse_args()
    sizes = ragged_shards()
    megabytes = peak_megabytes(sizes)
    windows = [window_seconds(sizes) for _ in range(options.rounds)]
    resumes = [resume_seconds(sizes) for _ in range(options.rounds)]
    following, anywhere = zip(*windows, strict=True)
    print(f"{sum(sizes)} samples in {len(sizes)} shards: peak {megabytes:.1f} MB")
    print(f"next window      {Spread.of([1e3 * value for value in following]).show(3)} ms")
    print(f"window anywhere  {Spread.of([1e3 * value for value in anywhere]).show(3)} ms")
    print(f"resume, epoch 5  {Spread.of([1e3 * value for value in resumes]).show(1)} ms")
    ratios = {
        "memory: limit / peak": Spread.of([LIMIT_MEGABYTES / megabytes]),
        "next window: limit / time": Spread.of([LIMIT_WINDOW_SECONDS / v for v in following]),
        "window anywhere: limit / time": Spread.of([LIMIT_WINDOW_SECONDS / v for v in anywhere]),
        "resume in epoch 5: limit / time": Spread.of([LIMIT_RESUME_SECONDS / v for v in resumes]),
    }
    content = {
        "versions": versions("numpy"),
        "peak_megabytes": megabytes,
        "next_window_seconds": list(following),
        "window_anywhere_seconds": list(anywhere),
        "resume_seconds": resumes,
    }
    met = report(options.out, content, ratios, [Target(ratio=name, least=1.0) for name in ratios])
    return exit_code(met, options.check)


if __name__ == "__main__":
    sys.exit(main())
