"""Checkpoints read: damaged ones, forged ones, old ones."""

import json
import logging
import os
import pickle
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file

from checkpoints import names
from pretrain.checkpoint import (
    CheckpointConfig,
    CheckpointError,
    Marker,
    OneRank,
    newest_complete,
    open_checkpoint,
    remove_old,
    resume_point,
    start_afresh,
    take_lease,
)
from pretrain.checkpoint.files import FileSum


def damage(path, how):
    content = path.read_bytes()
    match how:
        case "flip":
            flipped = bytearray(content)
            flipped[len(content) // 2] ^= 1
            path.write_bytes(flipped)
        case "truncate":
            path.write_bytes(content[:-1])
        case "delete":
            path.unlink()
        case "add":
            path.with_name(f"extra-{path.name}.json").touch()


@pytest.mark.parametrize("how", ["flip", "truncate", "delete", "add"])
@pytest.mark.parametrize("name", ["backbone/model.safetensors", "config.json", "COMPLETE"])
def test_a_damaged_newest_checkpoint_is_named_put_aside_and_written_again(
    tmp_path, write, caplog, name, how
):
    write(tmp_path, 1)
    newest = write(tmp_path, 2)
    damage(newest / name, how)
    with pytest.raises(CheckpointError, match="step-00000002"):
        open_checkpoint(newest)
    found = newest_complete(tmp_path)
    assert found is not None
    assert found.step == 1
    assert "passed over" in caplog.text
    assert "step-00000002" in caplog.text
    resumed = resume_point(tmp_path, OneRank())
    assert resumed == found
    assert open_checkpoint(write(tmp_path, 2)).step == 2
    assert len(list((tmp_path / "checkpoints").glob("step-00000002.rejected-*"))) == 1


def test_a_folder_that_is_not_there_is_told_as_that(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such folder"):
        open_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no COMPLETE file"):
        open_checkpoint(tmp_path)


def test_where_none_is_whole_a_run_is_refused_until_it_may_start_afresh(tmp_path, write):
    assert resume_point(tmp_path, OneRank()) is None
    for step in (1, 2):
        damage(write(tmp_path, step) / "COMPLETE", "delete")
    with pytest.raises(CheckpointError, match=r"none of its 2 checkpoints is whole.*--fresh"):
        resume_point(tmp_path, OneRank())
    assert names(tmp_path) == ["latest", "step-00000001", "step-00000002"]
    start_afresh(tmp_path)
    assert resume_point(tmp_path, OneRank()) is None
    write(tmp_path, 1)
    with pytest.raises(ValueError, match="is whole: --resume goes on"):
        start_afresh(tmp_path)


def test_what_a_killed_run_left_is_cleared_at_the_next_start(tmp_path, write):
    write(tmp_path, 1)
    left = tmp_path / "checkpoints" / "step-00000002.tmp-0a1b2c3d"
    (left / "rank-00000.part").mkdir(parents=True)
    (left / "config.json").write_text("{}")
    resumed = resume_point(tmp_path, OneRank())
    assert resumed is not None
    assert resumed.step == 1
    assert names(tmp_path) == ["latest", "step-00000001"]


@contextmanager
def as_nobody():
    """Modes of files hold for everybody but root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def public_run(write):
    """A run of two checkpoints that everybody may read."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for step in (1, 2):
            write(run, step)
        for path in (run, *run.rglob("*")):
            path.chmod(0o755)
        yield run


@pytest.mark.parametrize("name", ["backbone", "config.json", "COMPLETE", "."])
@pytest.mark.parametrize("start", [lambda run: resume_point(run, OneRank()), start_afresh])
def test_a_checkpoint_that_cannot_be_read_now_is_not_put_aside(public_run, start, name):
    closed = public_run / "checkpoints" / "step-00000002" / name
    closed.chmod(0)
    told = pytest.raises(CheckpointError, match="step-00000002: rank 0 cannot read it now")
    with told, as_nobody():
        start(public_run)
    closed.chmod(0o755)
    assert open_checkpoint(public_run).step == 2


def test_where_checkpoints_cannot_be_listed_a_run_does_not_begin_anew(public_run):
    (public_run / "checkpoints").chmod(0)
    with pytest.raises(CheckpointError, match="Permission denied"), as_nobody():
        resume_point(public_run, OneRank())


def test_leftovers_that_cannot_be_removed_do_not_stop_a_start(public_run, caplog):
    (public_run / "checkpoints" / "step-00000003.tmp-0a1b2c3d").mkdir()
    with as_nobody():
        resumed = resume_point(public_run, OneRank())
    assert resumed is not None
    assert resumed.step == 2
    assert "tmp-0a1b2c3d could not be removed" in caplog.text


def test_a_checkpoint_of_another_format_is_refused_and_stays(tmp_path, write):
    write(tmp_path, 1)
    marker = write(tmp_path, 2) / "COMPLETE"
    marker.write_text('{"format_version": 1}')
    with pytest.raises(CheckpointError, match=r"format 1, .* reads format 2; go on with"):
        resume_point(tmp_path, OneRank())
    assert names(tmp_path) == ["latest", "step-00000001", "step-00000002"]


def test_a_flipped_bit_in_the_formats_number_is_damage_and_no_other_format(tmp_path, write):
    write(tmp_path, 1)
    marker = write(tmp_path, 2) / "COMPLETE"
    marker.write_text(marker.read_text().replace('"format_version": 2', '"format_version": 3'))
    resumed = resume_point(tmp_path, OneRank())
    assert resumed is not None
    assert resumed.step == 1


@pytest.mark.parametrize("content", [None, "", "step-00000001", "step-00000009", "../../etc"])
def test_the_hint_named_latest_is_trusted_by_nobody(tmp_path, write, content):
    for step in (1, 2):
        write(tmp_path, step)
    latest = tmp_path / "checkpoints" / "latest"
    assert latest.read_text() == "step-00000002\n"
    latest.unlink()
    if content is not None:
        latest.write_text(content)
    assert open_checkpoint(tmp_path).step == 2


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format_version": 1}', "\x80\x04"])
def test_a_marker_that_is_something_else_is_refused(tmp_path, write, content):
    folder = write(tmp_path, 1)
    (folder / "COMPLETE").write_text(content)
    with pytest.raises(CheckpointError, match=r"COMPLETE: (unreadable|format)"):
        open_checkpoint(folder)


class Payload:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["optimizer.pt", "backbone/extra.pkl", "state.safetensors"])
@pytest.mark.parametrize("vouched_for", [False, True])
def test_a_pickle_in_a_checkpoint_is_refused_and_not_run(tmp_path, write, name, vouched_for):
    trace, folder = tmp_path / "run-by-pickle", write(tmp_path, 1)
    planted = folder / name
    planted.write_bytes(pickle.dumps(Payload(trace)))
    if vouched_for:
        marker = Marker.from_text((folder / "COMPLETE").read_text(), folder)
        forged = replace(marker, files={**marker.files, name: FileSum.of(planted)})
        (folder / "COMPLETE").write_text(forged.to_text())
    if vouched_for and name.endswith(".safetensors"):
        # By name and hash it is right: the only reader of such files refuses the content.
        open_checkpoint(folder)
        with pytest.raises(SafetensorError):
            load_file(planted)
    else:
        with pytest.raises(CheckpointError, match=r"may hold a pickle|does not belong"):
            open_checkpoint(folder)
    assert not trace.exists()


def test_a_pickle_is_not_written_either(tmp_path, write):
    with pytest.raises(CheckpointError, match=r"optimizer\.pt .* may hold a pickle"):
        write(tmp_path, 1, lambda: lambda folder: (folder / "optimizer.pt").touch())


def test_a_link_in_a_checkpoint_is_refused(tmp_path, write):
    folder = write(tmp_path, 1)
    config = folder / "config.json"
    elsewhere = config.rename(tmp_path / "config.json")
    config.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=r"config\.json is no plain file"):
        open_checkpoint(folder)


def test_old_checkpoints_go_and_damaged_ones_do_not_count(tmp_path, write):
    folders = [write(tmp_path, step) for step in (1, 2, 3, 4, 5)]
    (folders[0] / "COMPLETE").unlink()  # an interrupted removal
    damage(folders[3] / "config.json", "truncate")
    remove_old(tmp_path, keep=2, lease_hours=1.0)
    assert [folder.exists() for folder in folders] == [False, False, True, True, True]
    with pytest.raises(AssertionError):
        remove_old(tmp_path, keep=1, lease_hours=1.0)


def test_a_checkpoint_that_a_probe_waits_for_is_kept_until_the_report_is_there(tmp_path, write):
    first, *_ = (write(tmp_path, step) for step in (1, 2, 3))
    checkpoint = open_checkpoint(first)
    report = tmp_path / "probes" / first.name / "topics.json"
    lease = take_lease(checkpoint, "probe-topics", report)
    assert lease.parent == first.parent
    remove_old(tmp_path, keep=2, lease_hours=1.0)
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"digest": "of other weights"}))
    remove_old(tmp_path, keep=2, lease_hours=1.0)
    assert open_checkpoint(first) == checkpoint
    report.write_text(json.dumps({"digest": checkpoint.digest}))
    remove_old(tmp_path, keep=2, lease_hours=1.0)
    assert names(tmp_path) == ["latest", "step-00000002", "step-00000003"]


def test_a_lease_ends_at_its_age_limit(tmp_path, write):
    first, *_ = (write(tmp_path, step) for step in (1, 2, 3))
    take_lease(open_checkpoint(first), "probe-topics", tmp_path / "never.json")
    remove_old(tmp_path, keep=2, lease_hours=1.0)
    assert first.exists()
    remove_old(tmp_path, keep=2, lease_hours=1e-9)
    assert names(tmp_path) == ["latest", "step-00000002", "step-00000003"]


def test_old_ones_are_removed_in_the_background_and_a_failure_there_is_a_warning(
    tmp_path, write, writer_of, caplog
):
    caplog.set_level(logging.WARNING)
    for step in (1, 2, 3):
        write(tmp_path, step)
    writer = writer_of(tmp_path)
    writer.retire(2)
    writer.close()
    assert names(tmp_path) == ["latest", "step-00000002", "step-00000003"]


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan")])
def test_a_lease_without_end_or_length_is_refused(hours):
    with pytest.raises(ValueError, match=r"checkpoint\.lease_hours"):
        CheckpointConfig(lease_hours=hours)
