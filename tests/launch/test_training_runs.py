"""Whole runs on real gloo ranks; most of them are forked from a warm process."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from launch.preemption import EXIT_REQUEUE
from launch.run_config import RunConfig, prepare_run
from launch.starts import read_starts
from pretrain.checkpoint import open_checkpoint
from pretrain.config import BatchConfig, config_to_json
from pretrain.models import Backbone, HeadConfig
from pretrain.objectives import ByolConfig
from pretrain.optim import OptimConfig
from pretrain.views import AudioViewConfig, ViewsConfig
from tiny import losses, tiny_run, whole_state
from warm_ranks import Started, run_warm, start_warm

STEPS, INTERVAL = 20, 5
"""Of a run, and from checkpoint to checkpoint."""


def short_run(run: Path, shards: Path, ranks: int = 1, **changes: object) -> RunConfig:
    length = {"total_steps": STEPS, "checkpoint_every_steps": INTERVAL}
    return tiny_run(run, shards, ranks, **length | changes)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, sample_shards):
    """On two ranks, uninterrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    prepare_run(short_run(run, sample_shards, ranks=2), resume=False)
    assert run_warm(run, 2) == 0
    return run


@dataclass
class Hurt:
    """A run of which a rank is killed, which is then asked to stop, and goes on to its end."""

    run: Path
    killed: int
    """Code of the start in which rank 1 was killed, and the step of its newest checkpoint."""
    saved_before: int
    asked: int
    """Code of the start that was asked to stop; then that of its newest checkpoint, and of its
    last logged step."""
    stopped_at: int
    logged: int
    ended: int


@pytest.fixture(scope="module")
def hurt_run(tmp_path_factory, sample_shards) -> Hurt:
    run = tmp_path_factory.mktemp("hurt") / "run"
    started = start(short_run(run, sample_shards, ranks=2))
    wait_for(lambda: len(losses(run)) >= INTERVAL + 2)
    ranks = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    os.kill(int(ranks[1]), signal.SIGKILL)
    killed, saved_before = started.wait(timeout=60), open_checkpoint(run).step
    resumed = start(short_run(run, sample_shards, ranks=2), "--resume")
    wait_for(lambda: len(read_starts(run)) == 2 and len(losses(run)) >= 2 * INTERVAL)
    resumed.send_signal(signal.SIGUSR2)
    asked, stopped_at = resumed.wait(timeout=120), open_checkpoint(run).step
    logged = max(losses(run))
    return Hurt(run, killed, saved_before, asked, stopped_at, logged, ended=run_warm(run, 2))


def test_one_rank_that_accumulates_gradients_has_the_losses_of_two_ranks_that_do_not(
    tmp_path, sample_shards, whole_run
):
    batch = BatchConfig(global_samples=16, micro_samples=4)
    prepare_run(short_run(tmp_path / "run", sample_shards, batch=batch), resume=False)
    assert run_warm(tmp_path / "run", 1) == 0
    one, two = losses(tmp_path / "run"), losses(whole_run)
    assert sorted(one) == sorted(two) == list(range(1, STEPS + 1))
    assert two == pytest.approx(one, rel=1e-5)


def test_one_rank_and_two_have_the_same_losses_with_batch_norm_however_the_batch_is_cut(
    tmp_path, sample_shards
):
    """Two cohorts in one rank's rows, one in each rank's, and each over the rows of both.

    The rate is low: at the usual one ten steps make 1e-4 of the rounding of any reordered sum.
    """
    settings = {
        "byol": ByolConfig(heads=HeadConfig(hidden_size=64, embed_dim=32, norm_samples=8)),
        "views": ViewsConfig(audio=AudioViewConfig(mixup_group=4)),
        "optim": OptimConfig(learning_rate=2e-4),
        "checkpoint_every_steps": STEPS,
    }
    found = []
    for ranks, micro in ((1, 16), (2, 8), (2, 4)):
        run = tmp_path / f"{ranks}-{micro}"
        batch = BatchConfig(global_samples=16, micro_samples=micro)
        prepare_run(short_run(run, sample_shards, ranks, batch=batch, **settings), resume=False)
        assert run_warm(run, ranks) == 0
        found.append(losses(run))
    one, *others = found
    assert sorted(one) == list(range(1, STEPS + 1))
    for other in others:
        assert other == pytest.approx(one, rel=1e-5)


def test_a_killed_rank_ends_the_run(hurt_run):
    assert hurt_run.killed == 128 + signal.SIGKILL
    assert INTERVAL <= hurt_run.saved_before < STEPS


def test_a_stop_request_saves_before_returning_and_asks_for_a_requeue(hurt_run):
    assert hurt_run.asked == EXIT_REQUEUE
    assert hurt_run.stopped_at == hurt_run.logged < STEPS


def test_a_run_that_was_killed_and_stopped_has_the_losses_and_weights_of_an_uninterrupted_one(
    hurt_run, whole_run
):
    assert hurt_run.ended == 0
    froms = [start.from_step for start in read_starts(hurt_run.run)]
    assert froms == [0, hurt_run.saved_before, hurt_run.stopped_at]
    assert losses(hurt_run.run) == losses(whole_run)
    assert same_weights(hurt_run.run, whole_run)


def test_a_finished_run_that_is_started_again_writes_nothing(whole_run):
    def files():
        return {path: path.stat().st_mtime_ns for path in whole_run.rglob("*") if path.is_file()}

    before = files()
    assert run_warm(whole_run, 1) == 0
    assert files() == before


def test_the_checkpoints_backbone_is_the_target_network(whole_run):
    checkpoint = open_checkpoint(whole_run)
    target = {name: value for (_, _, name), value in target_state(checkpoint.folder).items()}
    backbone = Backbone.load(checkpoint.backbone)
    for name, value in backbone.named_parameters():
        assert torch.equal(value.flatten(), target[f"backbone.{name}"]), name


def test_a_bfloat16_run_keeps_float32_masters_of_the_target(tmp_path, sample_shards):
    run = tmp_path / "run"
    prepare_run(short_run(run, sample_shards, precision="bf16", total_steps=3), resume=False)
    assert run_warm(run, 1) == 0
    target = target_state(open_checkpoint(run).folder)
    masters = [value for (_, kind, _), value in target.items() if kind == "master"]
    assert all(value.dtype == torch.float32 for value in masters)
    large = [value for value in masters if value.numel() > 64]
    rounded = [torch.equal(value, value.bfloat16().float()) for value in large]
    assert not any(rounded)


def test_torchrun_starts_the_same_run(tmp_path, sample_shards, whole_run):
    run = tmp_path / "run"
    file = tmp_path / "given.json"
    file.write_text(json.dumps(config_to_json(short_run(run, sample_shards, ranks=2))))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "launch", "pretrain", "--config", str(file)]
    assert subprocess.run(command, timeout=300).returncode == 0
    assert losses(run) == losses(whole_run)
    assert (run / "views" / "views.json").exists()


def test_every_pair_tau_and_health_are_in_the_metrics(whole_run):
    record = json.loads((whole_run / "metrics.jsonl").read_text().splitlines()[-1])
    pairs = [name for name in record if name.startswith("loss/")]
    assert len(pairs) == 1 + 3 + 6 + 1
    assert record["schedule/tau"] > 0.99
    for modality in ("text", "image", "audio", "fused"):
        assert record[f"health/std_projector_{modality}"] > 0
    assert list((whole_run / "tensorboard").iterdir())


def start(config: RunConfig, *words: str) -> Started:
    """The run as a user starts it, from a file."""
    file = config.run.with_name("given.json")
    file.write_text(json.dumps(config_to_json(config)))
    return start_warm(["pretrain", "--config", str(file), *words])


def same_weights(first: Path, second: Path) -> bool:
    states = [whole_state(open_checkpoint(run).folder) for run in (first, second)]
    assert {"master", "exp_avg", "exp_avg_sq", "step"} <= {kind for _, kind, _ in states[0]}
    same = [torch.equal(value, states[1][key]) for key, value in states[0].items()]
    return all(same) and states[0].keys() == states[1].keys()


def target_state(folder: Path) -> dict[tuple[str, str, str], torch.Tensor]:
    return {key: value for key, value in whole_state(folder).items() if key[0] == "target"}


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
