"""Whole runs on real gloo ranks, started as `triptych pretrain` starts them."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from launch.local import run_local
from launch.preemption import EXIT_REQUEUE
from launch.run_config import RunConfig, prepare_run
from pretrain.checkpoint import open_checkpoint
from pretrain.config import BatchConfig, config_to_json
from pretrain.models import Backbone
from tiny import losses, tiny_run


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, sample_shards):
    """Forty steps on two ranks, uninterrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    prepare_run(tiny_run(run, sample_shards, ranks=2), resume=False)
    assert run_local(run, 2) == 0
    return run


def test_two_ranks_and_one_rank_have_the_same_losses(tmp_path, sample_shards, whole_run):
    prepare_run(tiny_run(tmp_path / "run", sample_shards), resume=False)
    assert run_local(tmp_path / "run", 1) == 0
    one, two = losses(tmp_path / "run"), losses(whole_run)
    assert sorted(one) == sorted(two) == list(range(1, 41))
    for step in range(1, 21):
        assert two[step] == pytest.approx(one[step], rel=1e-5), step


def test_gradient_accumulation_changes_no_loss(tmp_path, sample_shards, whole_run):
    batch = BatchConfig(global_samples=16, micro_samples=4)
    prepare_run(tiny_run(tmp_path / "run", sample_shards, batch=batch), resume=False)
    assert run_local(tmp_path / "run", 1) == 0
    whole, parts = losses(whole_run), losses(tmp_path / "run")
    for step in range(1, 21):
        assert parts[step] == pytest.approx(whole[step], rel=1e-5), step


def test_a_killed_run_resumes_at_the_next_sample_with_the_same_losses(
    tmp_path, sample_shards, whole_run
):
    run = tmp_path / "run"
    started = start(tiny_run(run, sample_shards, ranks=2))
    wait_for(lambda: len(losses(run)) >= 13)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert 10 <= open_checkpoint(run).step < 40
    assert resume(run) == 0
    assert losses(run) == losses(whole_run)
    assert same_weights(run, whole_run)


def test_a_stop_request_saves_before_returning_and_asks_for_a_requeue(
    tmp_path, sample_shards, whole_run
):
    run = tmp_path / "run"
    started = start(tiny_run(run, sample_shards, ranks=2))
    wait_for(lambda: len(losses(run)) >= 3)
    started.send_signal(signal.SIGUSR2)
    assert started.wait(timeout=120) == EXIT_REQUEUE
    stopped_at = open_checkpoint(run).step
    assert 3 <= stopped_at < 40
    assert run_local(run, 2) == 0
    assert losses(run) == losses(whole_run)


def test_a_finished_run_that_is_started_again_writes_nothing(whole_run):
    before = {path: path.stat().st_mtime_ns for path in (whole_run / "checkpoints").rglob("*")}
    assert run_local(whole_run, 2) == 0
    assert before == {
        path: path.stat().st_mtime_ns for path in (whole_run / "checkpoints").rglob("*")
    }


def test_the_checkpoints_backbone_is_the_target_network(whole_run):
    checkpoint = open_checkpoint(whole_run)
    target = load_file(checkpoint.folder / "target.safetensors")
    backbone = Backbone.load(checkpoint.backbone)
    for name, value in backbone.named_parameters():
        assert torch.equal(value, target[f"master.backbone.{name}"]), name


def test_a_bfloat16_run_keeps_float32_masters_of_the_target(tmp_path, sample_shards):
    run = tmp_path / "run"
    config = tiny_run(run, sample_shards, ranks=2, precision="bf16", total_steps=3)
    prepare_run(config, resume=False)
    assert run_local(run, 2) == 0
    target = load_file(open_checkpoint(run).folder / "target.safetensors")
    masters = [value for name, value in target.items() if name.startswith("master.")]
    assert all(value.dtype == torch.float32 for value in masters)
    rounded = [torch.equal(value, value.bfloat16().float()) for value in masters if value.ndim == 2]
    assert not any(rounded)


def test_torchrun_starts_the_same_run(tmp_path, sample_shards, whole_run):
    run = tmp_path / "run"
    file = tmp_path / "given.json"
    file.write_text(json.dumps(config_to_json(tiny_run(run, sample_shards, ranks=2))))
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


def start(config: RunConfig) -> subprocess.Popen[bytes]:
    """The run as a user starts it, from a file."""
    file = config.run.with_name("given.json")
    file.write_text(json.dumps(config_to_json(config)))
    return subprocess.Popen([sys.executable, "-m", "launch", "pretrain", "--config", str(file)])


def resume(run: Path) -> int:
    words = ["pretrain", "--config", str(run / "config.json"), "--resume"]
    return subprocess.run([sys.executable, "-m", "launch", *words], timeout=300).returncode


def same_weights(first: Path, second: Path) -> bool:
    files = [open_checkpoint(run).folder / "target.safetensors" for run in (first, second)]
    return files[0].read_bytes() == files[1].read_bytes()


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
