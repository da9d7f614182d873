"""Scenes of the fault drill: SIGKILL at random moments, and at each boundary of the write."""

import os
import random
import signal
import time

from drill_looks import INTERVAL, committed, expect
from drill_run import END_SECONDS, Ground, Launched, Seen, Trial

KILLED = 128 + signal.SIGKILL
VICTIMS = ("rank 0", "rank 1", "launcher", "all")
SHARE_OF_STARTS = 0.25
"""Of the random kills, how many come before the first step can be done."""

MOST_STEPS = 7
"""Most steps that a start does before it is killed; see `Ground.config` for the sum."""

TEMPORARY = "*/step-????????.tmp-????????"

UNCOMMITTED = {
    "before the temporary folder": (0, 1, f"os.mkdir {TEMPORARY} *"),
    "before rank 0's folder": (0, 2, "os.mkdir *rank-00000.part *"),
    "within rank 0's files": (0, 1, "open *.part/backbone/tokenizer.json w *"),
    "before a file of rank 0 is durable": (
        0,
        2,
        "open *.part/engine/rank-00000.safetensors None *",
    ),
    "before a file of rank 0 is handed over": (0, 1, "os.rename *.part/engine/rank-00000.*"),
    "before the end of rank 0's share": (0, 2, "os.rmdir */rank-00000.part *"),
    "before rank 1's folder": (1, 1, "os.mkdir *rank-00001.part *"),
    "before a file of rank 1 is durable": (
        1,
        2,
        "open *.part/engine/rank-00001.safetensors None *",
    ),
    "before a file of rank 1 is handed over": (1, 1, "os.rename *.part/engine/rank-00001.*"),
    "before the end of rank 1's share": (1, 2, "os.rmdir */rank-00001.part *"),
    "before COMPLETE": (0, 1, "open */COMPLETE.* w *"),
    "before COMPLETE has its name": (0, 2, "os.rename */COMPLETE.*"),
    "before the rename": (0, 1, f"os.rename {TEMPORARY} *"),
}
"""Boundaries before the commit: name -> rank, which checkpoint of its start, and the file event
(`kill_at`) before which it is killed. Each event comes once in a checkpoint."""

COMMITTED = {
    "before latest": (0, 2, "open *latest.* w *"),
    "before latest has its name": (0, 1, "os.rename *latest.*"),
    "before a removal": (0, 1, "os.remove *COMPLETE -1"),
    "within a removal, COMPLETE gone": (0, 1, "shutil.rmtree */step-???????? *"),
    "within a removal, files gone": (0, 1, "os.remove rank-00000.safetensors *"),
}
"""Boundaries after the commit."""


def random_kills(ground: Ground) -> Seen:
    """A random rank, the launcher or all at a random moment of the start or of training."""
    ground.run_undisturbed()
    chance = random.Random(ground.seed)
    trial = Trial(ground, "random")
    seconds: dict[str, list[float]] = {"to the end of all ranks": [], "to the first new step": []}
    start_seconds, killed = 10.0, None
    for _ in range(ground.kills):
        with trial.start() as launched:
            began = time.monotonic()
            if chance.random() < SHARE_OF_STARTS:
                time.sleep(chance.uniform(0.0, start_seconds))
            else:
                launched.until_steps(1)
                start_seconds = time.monotonic() - began
                if killed is not None:
                    seconds["to the first new step"].append(time.monotonic() - killed)
                launched.until_steps(1 + chance.randrange(MOST_STEPS))
                time.sleep(chance.uniform(0.0, 0.3))
            killed = time.monotonic()
            _kill(launched, chance.choice(VICTIMS))
            code = launched.ended(END_SECONDS)
            expect(code in (KILLED, -signal.SIGKILL), f"after kill -9 the code was {code}")
            seconds["to the end of all ranks"].append(time.monotonic() - killed)
    with trial.start() as launched:
        launched.ends_with(0)
    trial.is_as_undisturbed()
    slowest = max(seconds["to the end of all ranks"])
    return Seen(
        times=ground.kills,
        seen=f"all losses, weights, moments the same; the others had ended after {slowest:.1f} s",
        steps_lost=trial.steps_lost,
        seconds=seconds,
    )


def _kill(launched: Launched, victim: str) -> None:
    pids = {"launcher": [launched.pid]}
    if victim != "launcher":
        ranks = launched.ranks()
        pids |= {"all": ranks, "rank 0": ranks[:1], "rank 1": ranks[1:]}
    for pid in pids[victim]:
        os.kill(pid, signal.SIGKILL)


def boundary_kills(ground: Ground) -> Seen:
    """At each boundary of the write, in the first checkpoint of a start or in a later one."""
    ground.run_undisturbed()
    trial = Trial(ground, "boundaries", keep=2)
    boundaries = {**UNCOMMITTED, **COMMITTED}
    for name, (rank, write, event) in boundaries.items():
        before = max(committed(trial.run), default=0)
        with trial.start(str(rank), "kill", event, str(write)) as launched:
            code = launched.ended()
            expect(code in (KILLED, -signal.SIGKILL), f"{name}: it ended with {code}, not killed")
        newest = max(committed(trial.run), default=0)
        expected = before + INTERVAL * (write if name in COMMITTED else write - 1)
        expect(newest == expected, f"{name}: step {newest} is committed, not {expected}")
    trial.go_on()
    trial.is_as_undisturbed()
    return Seen(
        times=len(boundaries),
        seen="found after each: the newest that was committed; at the end all the same",
        steps_lost=trial.steps_lost,
    )
