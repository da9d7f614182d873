import json

import pytest

from pretrain.checkpoint import (
    CheckpointError,
    Progress,
    newest_complete,
    open_checkpoint,
    remove_old,
    write_checkpoint,
)


class OneRank:
    rank, world_size = 0, 1

    def agree(self, ok):
        return ok


def write(run, step, text="weights"):
    def part(folder):
        (folder / "backbone").mkdir()
        (folder / "backbone" / "model").write_text(text)

    return write_checkpoint(run, Progress(step, 64 * step), [part], OneRank())


def test_a_checkpoint_is_read_back(tmp_path):
    folder = write(tmp_path, 3)
    checkpoint = open_checkpoint(folder)
    assert (checkpoint.step, checkpoint.samples_consumed) == (3, 192)
    assert checkpoint.backbone == folder / "backbone"
    assert checkpoint.run == tmp_path
    assert open_checkpoint(tmp_path) == checkpoint


def test_a_failing_part_leaves_nothing_behind(tmp_path):
    def part(folder):
        (folder / "half").write_text("x")
        raise OSError("No space left on device")

    with pytest.raises(CheckpointError, match="No space left"):
        write_checkpoint(tmp_path, Progress(1, 64), [part], OneRank())
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_another_ranks_failure_is_everyones(tmp_path):
    class Overruled(OneRank):
        def agree(self, ok):
            return False

    with pytest.raises(CheckpointError, match="another rank failed"):
        write_checkpoint(tmp_path, Progress(1, 64), [], Overruled())


def test_a_folder_without_complete_is_refused(tmp_path):
    folder = write(tmp_path, 1)
    (folder / "COMPLETE").unlink()
    with pytest.raises(CheckpointError, match="no COMPLETE"):
        open_checkpoint(folder)
    with pytest.raises(CheckpointError, match="no whole checkpoint yet"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "add"])
def test_a_damaged_file_is_named(tmp_path, damage):
    folder = write(tmp_path, 1)
    model = folder / "backbone" / "model"
    match damage:
        case "flip":
            model.write_text("weightz")
        case "truncate":
            model.write_text("")
        case "delete":
            model.unlink()
        case "add":
            (folder / "backbone" / "extra").touch()
    with pytest.raises(CheckpointError, match=r"backbone/(model|extra)"):
        open_checkpoint(folder)


def test_a_damaged_newest_checkpoint_is_passed_over_and_said(tmp_path, caplog):
    write(tmp_path, 1)
    newest = write(tmp_path, 2)
    (newest / "backbone" / "model").write_text("")
    found = newest_complete(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step-00000002" in caplog.text


def test_an_unreadable_marker_is_refused(tmp_path):
    folder = write(tmp_path, 1)
    (folder / "COMPLETE").write_text("{")
    with pytest.raises(CheckpointError, match="unreadable"):
        open_checkpoint(folder)
    (folder / "COMPLETE").write_text(json.dumps({"files": {}}))
    with pytest.raises(CheckpointError, match="unreadable"):
        open_checkpoint(folder)


def test_old_checkpoints_go_and_unfinished_ones_stay(tmp_path):
    folders = [write(tmp_path, step) for step in (1, 2, 3)]
    unfinished = tmp_path / "checkpoints" / "step-00000000"
    unfinished.mkdir()
    remove_old(tmp_path, keep=2)
    assert [folder.exists() for folder in folders] == [False, True, True]
    assert unfinished.exists()


def test_a_step_is_never_written_twice(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(CheckpointError, match="exists already"):
        write(tmp_path, 1)
    assert open_checkpoint(tmp_path).step == 1
