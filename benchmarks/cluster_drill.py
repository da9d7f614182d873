"""Cluster drill: pretraining, sharding and submitting on a real Slurm of three nodes on this host.

After each fault: nothing hangs, nothing is silently begun at step 0, and losses, weights, moments
and target are bitwise those of a run of two local ranks that nothing happened to. Slurm must be
installed; the read-only folder needs the right to mount a file system in memory.

    python benchmarks/cluster_drill.py --check
    python benchmarks/cluster_drill.py --scenes limit nodes
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from cluster_losses import dead_nodes, dead_ranks, starts_in_vain, taken_port
from cluster_refusals import killed_element, mistakes, second_submissions
from cluster_run import ClusterGround
from cluster_short import three_in_turn
from cluster_stops import (
    asked_by_script,
    asked_by_signal,
    asked_to_requeue,
    at_the_limit,
    preempted,
    to_the_end,
    too_many_requeues,
)
from drill_run import Ground
from drill_table import Scene, play_all, write_shards
from interleaved import RESULTS, exit_code
from slurm_cluster import missing_programs, running_cluster

SAME = "bitwise as two local ranks"
GOES_ON = f"saved, queued again, on at the next sample, {SAME}"

SCENES = {
    "end": Scene("two nodes, to the end; queued again", f"{SAME}; nothing written", to_the_end),
    "signal": Scene("scancel --signal=USR2", GOES_ON, asked_by_signal),
    "limit": Scene("time limit of two minutes", GOES_ON, at_the_limit),
    "requeue": Scene("scontrol requeue", GOES_ON, asked_to_requeue),
    "preemption": Scene("preempted by an urgent partition", GOES_ON, preempted),
    "script": Scene("USR2 to a job of slurm/pretrain.sbatch", GOES_ON, asked_by_script),
    "max-requeues": Scene(
        "USR2 to a job that may not be queued again", "exit 75, the log tells", too_many_requeues
    ),
    "nodes": Scene(
        "death of the second, then the first node",
        f"goes on elsewhere, {SAME}",
        dead_nodes,
    ),
    "ranks": Scene(
        "kill -9 of rank 1, then of rank 0",
        f"the step ends in bounded time; then {SAME}",
        dead_ranks,
    ),
    "vain": Scene(
        "requeued three times without a step",
        "refused: exit 78, one line",
        starts_in_vain,
    ),
    "port": Scene("the ranks' port is taken", f"another one, {SAME}", taken_port),
    "array": Scene(
        "sharding array of eight, one task killed",
        "retried alone, digest of the local pool",
        killed_element,
    ),
    "twice": Scene("two submissions of one run", "the second refuses", second_submissions),
    "mistakes": Scene(
        "bad partition, account, GPU count, read-only folder", "one clear line each", mistakes
    ),
}

SHORT = Scene("submitted twice more, USR2, kill -9 of rank 0", f"refused; {GOES_ON}", three_in_turn)
"""What the tests play: `twice`, `signal` and half of `ranks` in one run."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", nargs="+", choices=SCENES, help="else all")
    parser.add_argument("--steps", type=int, default=64, help="of each run")
    parser.add_argument("--check", action="store_true", help="exit 1 where anything surprises")
    parser.add_argument("--keep", type=Path, help="folder for runs and cluster, which then stays")
    parser.add_argument("--out", type=Path, default=RESULTS / "cluster_drill.json")
    options = parser.parse_args()
    if missing := missing_programs():
        parser.error(f"no {', '.join(missing)} here: apt-get install slurm-wlm munge")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same arithmetic in all runs
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # and stop Slurm
    with tempfile.TemporaryDirectory(prefix="cluster-drill-") as scratch:
        folder = (options.keep or Path(scratch)).absolute()
        (folder / "cluster").mkdir(parents=True)
        # A dead node is noticed after `node_seconds`; a cluster's default is 300.
        with running_cluster(folder / "cluster", node_seconds=20) as cluster:
            ground = ClusterGround(prepare_ground(folder, options.steps), cluster)
            names = options.scenes or tuple(SCENES)
            as_expected = play_all(SCENES, names, ground, options.out)
    return exit_code(as_expected, options.check)


def prepare_ground(folder: Path, steps: int) -> Ground:
    """Shards, and the run that nothing happens to."""
    ground = Ground(folder=folder, shards=write_shards(folder / "shards"), seed=0, kills=steps // 4)
    ground.run_undisturbed()
    return ground


if __name__ == "__main__":
    sys.exit(main())
