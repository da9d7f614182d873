"""Fault drill: runs of two ranks are hurt in every way that the table below names.

After each fault: nothing is lost beyond the checkpoint interval, nothing is silently begun at step
0, nothing hangs, and losses, weights, moments and target are bitwise those of a run that nothing
happened to. The full disk needs the right to mount a file system in memory.

    python benchmarks/drill.py --check
    python benchmarks/drill.py --quick              (the form that the tests run)
    python benchmarks/drill.py --scenes kills disk
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from drill_disk import damaged_starts, every_file, full_disk, slow_rank
from drill_kills import boundary_kills, random_kills
from drill_run import Ground
from drill_stops import (
    bad_batches,
    one_bad_batch,
    other_numbers_of_ranks,
    second_job,
    signal_while_saving,
    stopped_rank,
)
from drill_table import Scene, play_all, write_shards
from interleaved import RESULTS, exit_code

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
    with tempfile.TemporaryDirectory(prefix="drill-") as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        ground = Ground(
            folder=folder,
            shards=write_shards(folder / "shards"),
            seed=options.seed,
            kills=options.kills or (3 if options.quick else 50),
        )
        as_expected = play_all(SCENES, names, ground, options.out, options.seed)
    return exit_code(as_expected, options.check)


if __name__ == "__main__":
    sys.exit(main())
