"""What whole runs do when they are hurt: signals, stuck and slow ranks, numbers that are none."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from data_sharding.folder_lock import HeldError
from data_sharding.stream.loader import LoaderConfig
from launch.guard_config import GuardConfig
from launch.preemption import EXIT_CRASH_LOOP, EXIT_NOT_FINITE, EXIT_REQUEUE, EXIT_STALLED
from launch.run_config import prepare_run
from launch.start import start_run
from launch.starts import read_starts, write_starts
from pretrain.checkpoint import open_checkpoint
from pretrain.config import DataConfig
from pretrain.optim import OptimConfig
from tiny import losses, tiny_run
from warm_ranks import launch_warm, run_warm

LAUNCHER = (
    "import sys; from pathlib import Path; from launch.local import run_local; "
    "sys.exit(run_local(Path(sys.argv[1]), 2))"
)


@contextmanager
def launched(run: Path):
    """The launcher of two ranks, which have all to import; where both say what they have to."""
    with (run / "said.txt").open("a") as said:
        launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(run)], stderr=said)
    try:
        yield launcher
    finally:
        launcher.kill()
        launcher.wait()


@contextmanager
def launched_warm(run: Path):
    """The same, with ranks that need not import anything."""
    with (run / "said.txt").open("a") as said:
        launcher = launch_warm(run, 2, said.fileno())
    try:
        yield launcher
    finally:
        with suppress(ProcessLookupError):
            launcher.send_signal(signal.SIGKILL)


def ranks_of(launcher) -> list[int]:
    """Process ids of the ranks, once there are two."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    wait_for(lambda: len(children.read_text().split()) == 2)
    return [int(pid) for pid in children.read_text().split()]


def wait_for(condition, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def checkpoints(run: Path) -> list[str]:
    return sorted(folder.name for folder in (run / "checkpoints").glob("step-*"))


def test_signals_to_one_rank_or_its_whole_job_at_any_moment_give_one_checkpoint(
    tmp_path, sample_shards
):
    run = tmp_path / "run"
    data = DataConfig(shards=str(sample_shards), loader=LoaderConfig(num_workers=1))
    config = tiny_run(run, sample_shards, ranks=2, data=data, checkpoint_every_steps=1000)
    prepare_run(config, resume=False)
    with launched(run) as launcher:
        # Before Python itself has started in them: nobody could have listened yet.
        _, second = ranks_of(launcher)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(second, number)
        assert launcher.wait(timeout=240) == EXIT_REQUEUE
    assert checkpoints(run) == ["step-00000001"]
    assert sorted(losses(run)) == [1]
    with launched_warm(run) as launcher:
        _, second = ranks_of(launcher)
        wait_for(lambda: len(losses(run)) >= 4)
        os.killpg(second, signal.SIGUSR2)  # its loader's processes too, as some schedulers do
        time.sleep(0.05)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(timeout=240) == EXIT_REQUEUE
    stopped_at = open_checkpoint(run).step
    assert 4 <= stopped_at < 40
    assert sorted(losses(run)) == list(range(1, stopped_at + 1))
    assert [start.code for start in read_starts(run)] == [EXIT_REQUEUE] * 2
    assert [start.from_step for start in read_starts(run)] == [0, 1]
    assert not (run / "run.lock").exists()
    said = (run / "said.txt").read_text()
    assert said.count("SIGTERM: stopping after this step") == 1  # the first job's rank 0 had none
    assert said.count(f"saved at step {stopped_at}; --resume goes on") == 1


def test_a_slow_rank_is_named_and_spared_and_a_stuck_one_is_named_and_ends_the_run(
    tmp_path, sample_shards
):
    run = tmp_path / "run"
    config = replace(
        tiny_run(run, sample_shards, ranks=2, total_steps=4000, checkpoint_every_steps=2),
        guard=GuardConfig(watchdog_minutes=0.2, start_minutes=5.0),
    )
    prepare_run(config, resume=False)
    with launched_warm(run) as launcher:
        _, second = ranks_of(launcher)
        wait_for(lambda: len(list((run / "checkpoints").glob("step-*/COMPLETE"))) >= 3)

        # Meanwhile nobody else may work there.
        before = (run / "config.json").read_text()
        with pytest.raises(HeldError, match="in use by process"):
            start_run(replace(config, ranks=1), resume=True)
        assert (run / "config.json").read_text() == before

        said = run / "said.txt"
        wait_for(lambda: slowed(second) and "rank 1 is" in said.read_text())
        assert "times slower than the others" in said.read_text()
        assert Path(f"/proc/{second}").exists()

        os.kill(second, signal.SIGSTOP)
        assert launcher.wait(timeout=120) == EXIT_STALLED
    (folder,) = (run / "stalls").iterdir()
    verdict = (folder / "verdict.txt").read_text()
    assert verdict.count("process ") == 1
    assert f"rank 1 (process {second}" in verdict
    assert "stopped by a signal" in verdict
    waiting = json.loads((folder / "rank-00000.json").read_text())
    assert waiting["waiting"]
    assert "pretrain/trainer.py" in (folder / "rank-00000.txt").read_text()
    assert "most recent call first" in (folder / "rank-00001.txt").read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in (second, waiting["pid"]))


def slowed(pid: int) -> bool:
    """A process that gets a sixth of its time, for a moment."""
    for _ in range(5):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.02)
    return True


def test_a_run_whose_loss_stays_no_number_stops_and_is_not_started_for_ever(
    tmp_path, sample_shards, capfd
):
    run = tmp_path / "run"
    config = tiny_run(
        run,
        sample_shards,
        checkpoint_every_steps=1,
        optim=OptimConfig(learning_rate=1e18, warmup_fraction=0.0, max_gradient_norm=None),
    )
    prepare_run(config, resume=False)
    assert run_warm(run, 1) == EXIT_NOT_FINITE
    said = capfd.readouterr().err
    good = open_checkpoint(run)
    assert said.count("batch passed over: rank 0: text features not finite") == 3
    assert said.count(f"The last good checkpoint: {good.folder}") == 1
    assert f"step {good.step + 1}: batch passed over" in said

    first = read_starts(run)[0]
    assert first.code == EXIT_NOT_FINITE
    write_starts(run, [replace(first, furthest=good.step)] * 3)
    before = sorted(path for path in run.rglob("*"))
    assert run_warm(run, 1) == EXIT_CRASH_LOOP
    said = capfd.readouterr().err
    assert f"the last 3 starts (since {first.at} UTC) came no further than step" in said
    assert f"remove {run / 'starts.jsonl'}" in said
    assert sorted(path for path in run.rglob("*")) == before
