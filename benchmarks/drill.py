"""Fault drill: runs of two ranks are hurt in every way that the table below names.

After each fault: nothing is lost beyond the checkpoint interval, nothing is silently begun at step
0, nothing hangs, and losses, weights, moments and target are bitwise those of a run that nothing
happened to. The full disk needs the right to mount a file system in memory.

    python benchmarks/drill.py --check
    python benchmarks/drill.py --quick              (the form that the tests run)
    python benchmarks/drill.py --scenes kills disk
"""

import argparse
import json
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from drill_disk import damaged_starts, every_file, full_disk, slow_rank
from drill_kills import boundary_kills, random_kills
from drill_looks import LeftOutError, SurpriseError
from drill_run import Ground, Seen
from drill_stops import (
    bad_batches,
    one_bad_batch,
    other_numbers_of_ranks,
    second_job,
    signal_while_saving,
    stopped_rank,
)
from interleaved import RESULTS, Spread, exit_code, versions

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stats import StatsConfig, compute_stats
from eval.importers.sample_topics import CORPUS


@dataclass(frozen=True)
class Scene:
    """A fault, and what is to follow."""

    fault: str
    expected: str
    act: Callable[[Ground], Seen]


SAME = "bitwise as undisturbed"

SCENES = {
    "kills": Scene("SIGKILL at random moments", f"resumed each time, {SAME}", random_kills),
    "boundaries": Scene(
        "SIGKILL at each boundary of the write",
        f"the newest committed one is found, {SAME}",
        boundary_kills,
    ),
    "slow": Scene(
        "slow, then stopped rank during a save",
        "nothing committed early, training goes on",
        slow_rank,
    ),
    "files": Scene(
        "bit flip, truncation, deletion of any file",
        "the older one is used; all damaged: refused",
        every_file,
    ),
    "damage": Scene(
        "the same, with whole starts",
        f"the older one is used, {SAME}; all damaged: refused",
        damaged_starts,
    ),
    "disk": Scene(
        "full disk before, during, after a save",
        f"refused, older ones stay; with room again {SAME}",
        full_disk,
    ),
    "nan": Scene(
        "NaN in all batches of one rank",
        f"stops after 3, names them; then {SAME}",
        bad_batches,
    ),
    "nan-once": Scene(
        "NaN in one batch of one rank, and a kill",
        "passed over by all ranks, nothing else changes",
        one_bad_batch,
    ),
    "signals": Scene(
        "USR2 to one rank during a save, TERM to all",
        f"both checkpoints whole, no step lost, {SAME}",
        signal_while_saving,
    ),
    "job": Scene("second job on the run folder", f"refused; the first {SAME}", second_job),
    "stopped": Scene(
        "stopped rank (SIGSTOP)",
        f"named by the watchdog, the run ends; then {SAME}",
        stopped_rank,
    ),
    "ranks": Scene(
        "2 -> 1 -> 3 -> 2 ranks, ZeRO 1, 2, 3, 1",
        "losses within 1e-5, bitwise before the first change",
        other_numbers_of_ranks,
    ),
}
QUICK = ("kills", "files")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    fault: str
    times: int
    expected: str
    seen: str
    as_expected: bool
    steps_lost: int | None
    """Most in one start."""

    minutes: float
    seconds: dict[str, Spread]

    def show(self) -> str:
        """For a table in markdown."""
        lost = "" if self.steps_lost is None else str(self.steps_lost)
        seen = self.seen if self.as_expected else f"**NOT AS EXPECTED**: {self.seen}"
        return f"| {self.fault} | {self.times or ''} | {self.expected} | {seen} | {lost} |"


def play(scene: Scene, ground: Ground) -> Row:
    """Play a scene; whatever goes wrong in it is its outcome, and the others are still played."""
    began = time.monotonic()
    try:
        seen, as_expected = scene.act(ground), True
    except (SurpriseError, LeftOutError) as error:
        words = f"left out: {error}" if isinstance(error, LeftOutError) else str(error)
        seen, as_expected = Seen(times=0, seen=words, steps_lost=[]), False
    except Exception as error:
        traceback.print_exc()
        seen, as_expected = Seen(times=0, seen=repr(error), steps_lost=[]), False
    return Row(
        fault=scene.fault,
        times=seen.times,
        expected=scene.expected,
        seen=seen.seen,
        as_expected=as_expected,
        steps_lost=max(seen.steps_lost, default=None),
        minutes=(time.monotonic() - began) / 60,
        seconds={name: Spread.of(values) for name, values in seen.seconds.items() if values},
    )


def write_shards(folder: Path) -> Path:
    """The bundled sample corpus as shards with statistics."""
    if folder.exists():
        return folder
    shard_corpus(CORPUS, folder, ShardingConfig())
    compute_stats(folder, StatsConfig())
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs="+", choices=SCENES, help="else all")
    parser.add_argument("--kills", type=int, help="random ones; 50, or 3 with --quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--check", action="store_true", help="exit 1 where anything surprises")
    parser.add_argument("--keep", type=Path, help="folder for the runs, which then stay")
    parser.add_argument("--out", type=Path, help="JSON; if not given, the results' one, or none")
    options = parser.parse_args()
    if options.out is None and not options.quick:
        options.out = RESULTS / "drill.json"
    names = options.scenes or (QUICK if options.quick else tuple(SCENES))
    logging.getLogger("pretrain").setLevel(logging.ERROR)  # damage is not news here
    print(f"seed {options.seed}", flush=True)
    rows = {}
    with tempfile.TemporaryDirectory(prefix="drill-") as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        ground = Ground(
            folder=folder,
            shards=write_shards(folder / "shards"),
            seed=options.seed,
            kills=options.kills or (3 if options.quick else 50),
        )
        print("| fault | times | expected | seen | steps lost (most) |\n|---|---|---|---|---|")
        for name in names:
            rows[name] = play(SCENES[name], ground)
            print(rows[name].show(), flush=True)
            if options.out:
                record(name, rows[name], options)
    for row in rows.values():
        for name, spread in row.seconds.items():
            print(f"{row.fault}: seconds {name}: {spread.show(1)}")
    return exit_code(all(row.as_expected for row in rows.values()), options.check)


def record(name: str, row: Row, options: argparse.Namespace) -> None:
    """Put a scene's outcome into the JSON, in the place of its last one."""
    path: Path = options.out
    scenes = json.loads(path.read_text())["scenes"] if path.exists() else {}
    found = versions("torch", "deepspeed", "safetensors")
    scenes[name] = {**asdict(row), "seed": options.seed, "versions": found}
    ordered = {name: scenes[name] for name in SCENES if name in scenes}
    met = all(scene["as_expected"] for scene in ordered.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"scenes": ordered, "met": met}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
