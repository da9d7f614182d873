"""Checkpoints written by a single rank; several are in test_checkpoint_ranks.py."""

import resource
import shutil
import subprocess
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from checkpoints import names, weights
from pretrain.checkpoint import (
    CheckpointConfig,
    CheckpointError,
    CheckpointWriter,
    OneRank,
    Progress,
    newest_complete,
    open_checkpoint,
)


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for a megabyte; where nothing may be mounted, for files of that size."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        yield folder
        subprocess.run(["umount", str(folder)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_is_read_back(tmp_path, write):
    folder = write(tmp_path, 3)
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.step, checkpoint.samples_consumed) == (3, 192)
    assert checkpoint.backbone == folder / "backbone"
    assert checkpoint.run == tmp_path
    assert checkpoint.versions["torch"]
    assert open_checkpoint(tmp_path) == checkpoint
    assert names(tmp_path) == ["latest", "step-00000003"]


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path, writer_of):
    value, may_write = np.ones(4), threading.Event()

    def part():
        copied = value.copy()

        def write(folder):
            assert may_write.wait(timeout=60)
            save_file({"w": copied}, folder / "model.safetensors")

        return write

    writer = writer_of(tmp_path)
    writer.save(Progress(1, 64), [part])
    assert writer.poll() == []
    assert newest_complete(tmp_path) is None
    value += 1.0  # the next step of training
    may_write.set()
    [folder] = writer.wait()
    assert load_file(folder / "model.safetensors")["w"].tolist() == [1.0] * 4
    assert writer.poll() == []


def test_the_next_checkpoint_waits_for_the_one_before(tmp_path, writer_of):
    writer, order = writer_of(tmp_path), []

    def part(step):
        def write(folder):
            order.append(step)
            (folder / "config.json").write_text("{}")

        return lambda: write

    for step in (1, 2, 3):
        writer.save(Progress(step, step), [part(step)])
        assert len(list((tmp_path / "checkpoints").glob("*.tmp-*"))) == 1
    assert [folder.name[-1] for folder in writer.wait()] == ["1", "2", "3"]
    assert order == [1, 2, 3]


def test_a_blocking_write_is_whole_when_it_returns(tmp_path, writer_of):
    writer = writer_of(tmp_path, write="blocking")
    writer.save(Progress(1, 64), [weights()])
    assert open_checkpoint(tmp_path).step == 1
    assert len(writer.poll()) == 1


@pytest.mark.parametrize("stage", ["snapshot", "write"])
def test_a_failure_leaves_nothing_behind_and_the_older_one_as_it_was(
    tmp_path, write, writer_of, stage
):
    def half(folder):
        (folder / "half.json").write_text("x")
        raise OSError(28, "No space left on device")

    def part():
        if stage == "snapshot":
            half(tmp_path)
        return half

    older = open_checkpoint(write(tmp_path, 1))
    writer = writer_of(tmp_path, expected_bytes=2_000_000)
    writer.save(Progress(2, 128), [part])
    with pytest.raises(CheckpointError, match=r"step-00000002.*No space left.*2\.0 MB are needed"):
        writer.wait()
    assert names(tmp_path) == ["latest", "step-00000001"]
    assert open_checkpoint(tmp_path) == older


def test_waiting_for_a_slow_disk_gives_signs_of_life(tmp_path):
    signs, waited = [], threading.Event()

    def slow(folder):
        assert waited.wait(timeout=60)
        (folder / "config.json").write_text("{}")

    def alive():
        signs.append(None)
        if len(signs) == 2:
            waited.set()

    writer = CheckpointWriter(tmp_path, OneRank(), CheckpointConfig(), alive=alive)
    writer.save(Progress(1, 64), [lambda: slow])
    assert len(writer.wait()) == 1
    writer.close()
    assert len(signs) >= 2


def test_a_mistake_in_removing_old_ones_is_told_with_its_traceback(tmp_path, writer_of, caplog):
    writer = writer_of(tmp_path)
    writer.retire(1)
    writer.close()
    assert "could not be removed" in caplog.text
    assert "AssertionError" in caplog.text


def test_where_there_is_no_room_nothing_is_begun(tmp_path, writer_of):
    writer = writer_of(tmp_path, expected_bytes=1 << 60)
    with pytest.raises(CheckpointError, match=r"too little room.*needed and .* MB are free"):
        writer.save(Progress(1, 64), [weights()])
    assert names(tmp_path) == []


def test_a_run_may_go_on_without_a_checkpoint_but_not_end_without_one(tmp_path, writer_of, caplog):
    def full(folder):
        raise OSError(28, "No space left on device")

    writer = writer_of(tmp_path, on_failure="continue")
    writer.save(Progress(1, 64), [lambda: full])
    writer.save(Progress(2, 128), [weights()])
    assert [folder.name for folder in writer.wait()] == ["step-00000002"]
    assert "Training goes on" in caplog.text
    writer.save(Progress(3, 192), [lambda: full])
    with pytest.raises(CheckpointError, match="step-00000003: not written"):
        writer.wait()
    assert caplog.text.count("not written") == 1


def test_a_disk_that_fills_up_is_told_and_cleared(small_disk, write, writer_of):
    run = small_disk / "run"
    write(run, 1)
    writer = writer_of(run)
    writer.save(Progress(2, 128), [weights(size=1 << 18)])
    with pytest.raises(CheckpointError, match=r"(?i)(no space left.*MB are free|too large)"):
        writer.wait()
    assert names(run) == ["latest", "step-00000001"]
    writer.save(Progress(3, 192), [weights()])
    assert [folder.name for folder in writer.wait()] == ["step-00000003"]


def test_a_run_folder_that_vanishes_is_told(tmp_path, writer_of):
    def vanish(folder):
        shutil.rmtree(tmp_path / "run")

    writer = writer_of(tmp_path / "run")
    writer.save(Progress(1, 64), [lambda: vanish])
    with pytest.raises(CheckpointError, match="not written"):
        writer.wait()


def test_a_name_that_is_taken_while_writing_is_left_alone(tmp_path, writer_of):
    theirs = tmp_path / "checkpoints" / "step-00000001" / "theirs.json"

    def other_job(folder):
        theirs.parent.mkdir()
        theirs.write_text("{}")

    writer = writer_of(tmp_path)
    writer.save(Progress(1, 64), [lambda: other_job])
    with pytest.raises(CheckpointError, match="not empty") as told:
        writer.wait()
    assert "MB" not in str(told.value)  # room is not the matter
    assert theirs.exists()
    assert names(tmp_path) == ["step-00000001"]


def test_a_step_is_never_written_twice(tmp_path, write):
    write(tmp_path, 1)
    with pytest.raises(CheckpointError, match="exists already"):
        write(tmp_path, 1)
    assert open_checkpoint(tmp_path).step == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_never_committed(tmp_path, write, dtype, bad):
    def poisoned(folder):
        import torch
        from safetensors.torch import save_file

        kind = torch.bfloat16 if dtype == "bfloat16" else torch.from_numpy(np.zeros(1, dtype)).dtype
        value = torch.full((5,), 3e4, dtype=kind)
        value[3] = bad
        tensors = {"good": torch.ones(3, dtype=kind), "target.bad": value, "none": value[:0]}
        save_file(tensors, folder / "state.safetensors")

    with pytest.raises(CheckpointError, match=r"state\.safetensors: target\.bad is not finite"):
        write(tmp_path, 1, lambda: poisoned)
    assert names(tmp_path) == []
