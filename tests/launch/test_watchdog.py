"""Ranks without torch, watched as real ones are: each a process with a watcher beside it."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict

import pytest

from launch.guard_config import GuardConfig
from launch.preemption import EXIT_STALLED
from launch.watchdog import Sign, Watched, stall_folder

RANK = """
import ctypes, os, signal, sys, time
from pathlib import Path
from launch.guard_config import GuardConfig
from launch.watchdog import Watchdog

run, rank, fate = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
config = GuardConfig(watchdog_minutes=1.0 / 60, start_minutes=1.0)
watchdog = Watchdog(run, rank, 4, config)
watchdog.training(0)
for step in range(1, 4):
    with watchdog.doing("training step"):
        if step == 3 and fate == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        if step == 3 and fate == "holds the lock":
            ctypes.PyDLL(None).sleep(60)  # PyDLL calls without letting go of Python's lock
    watchdog.step_done(step)
if fate == "ends":
    watchdog.close()
    sys.exit(3)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def stalled(tmp_path_factory):
    """Four ranks, of which two are stuck in step 3: their exit codes, their run, what was said."""
    run = tmp_path_factory.mktemp("stalled")
    folder = stall_folder(run, os.environ)
    fates = ("waits", "holds the lock", "stops", "waits")
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(run), str(rank), fate],
            stderr=subprocess.PIPE, text=True,
        )
        for rank, fate in enumerate(fates)
    ]  # fmt: skip
    said = [rank.communicate(timeout=60)[1] for rank in ranks]
    return [rank.returncode for rank in ranks], folder, said


def test_a_stall_ends_every_rank_with_a_code_of_its_own(stalled):
    codes, _, _ = stalled
    assert codes == [EXIT_STALLED] * 4


def test_the_ranks_that_are_furthest_behind_are_named_once(stalled):
    _, folder, said = stalled
    verdict = (folder / "verdict.txt").read_text()
    assert [line.split(" (")[0].strip() for line in verdict.splitlines()[1:3]] == [
        "rank 1", "rank 2",
    ]  # fmt: skip
    assert "training step, 2 steps done" in verdict
    assert verdict.count("stopped by a signal") == 1
    assert [verdict.strip() in text for text in said] == [True, False, False, False]


def test_the_stacks_of_all_ranks_are_there_even_of_one_that_holds_pythons_lock(stalled):
    _, folder, _ = stalled
    stacks = [(folder / f"rank-{rank:05d}.txt").read_text() for rank in range(4)]
    assert all("most recent call first" in text for text in stacks)


def test_a_rank_that_ends_takes_its_watcher_along_and_keeps_its_code(tmp_path):
    command = [sys.executable, "-c", RANK, str(tmp_path), "0", "ends"]
    began = time.monotonic()
    assert subprocess.run(command, timeout=30).returncode == 3
    assert time.monotonic() - began < 20
    assert not (tmp_path / "stalls").exists()
    assert str(tmp_path) not in running_commands()


def test_a_stuck_rank_ends_where_its_stall_cannot_be_written_down(tmp_path):
    (tmp_path / "stalls").write_text("no folder")
    command = [sys.executable, "-c", RANK, str(tmp_path), "0", "waits"]
    ended = subprocess.run(command, timeout=30, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == EXIT_STALLED
    assert "rank 0 is stuck: between steps, 3 steps done; no report" in ended.stderr


def test_a_stuck_rank_ends_where_the_storage_for_its_report_hangs(tmp_path):
    os.mkfifo(tmp_path / "rank-00000.tmp")  # to open it waits for a reader, for ever
    sign = Sign(count=1, step=0, doing="waiting", patience_seconds=0.2)
    signs, stacks = os.memfd_create("signs"), os.memfd_create("stacks")
    os.pwrite(signs, sign.to_bytes(), 0)
    rank = subprocess.Popen(["sh", "-c", "trap '' QUIT; exec sleep 60"])
    watched = Watched(
        pid=rank.pid, rank=0, world_size=2, host="here", signs=signs, stacks=stacks,
        folder=str(tmp_path), slack_seconds=1.0,
    )  # fmt: skip
    watcher = subprocess.Popen(
        [sys.executable, "-m", "launch.watcher", json.dumps(asdict(watched))],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=(signs, stacks),
    )  # fmt: skip
    assert rank.wait(timeout=30) == -EXIT_STALLED
    assert (
        "waiting, 0 steps done; no report of it could be written in time"
        in (watcher.communicate(timeout=30)[1])
    )


def test_the_ranks_of_a_start_report_to_one_folder_which_no_other_start_does(tmp_path):
    job = {"SLURM_JOB_ID": "../../7", "SLURM_RESTART_COUNT": "0", "MASTER_PORT": "20000"}
    first = stall_folder(tmp_path, job | {"RANK": "0"})
    assert first == stall_folder(tmp_path, job | {"RANK": "1"})
    assert first.parent == tmp_path / "stalls"
    others = [{"SLURM_RESTART_COUNT": "1"}, {"SLURM_JOB_ID": "8"}, {"TRIPTYCH_START": "another"}]
    assert len({first, *(stall_folder(tmp_path, job | other) for other in others)}) == 4
    first.mkdir(parents=True)
    assert stall_folder(tmp_path, job) not in (first, None)


def running_commands():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                found.append(file.read().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"watchdog_minutes": 0.0}, "guard.watchdog_minutes must be positive"),
        ({"start_minutes": float("nan")}, "guard.start_minutes must be positive"),
        ({"max_starts": 0}, "guard.max_starts must be positive"),
        ({"collective_minutes": 20.0}, "more than watchdog_minutes and start_minutes"),
    ],
)
def test_bounds_that_bound_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GuardConfig(**changes)
