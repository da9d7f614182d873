import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_sharding.folder_lock import held
from launch.__main__ import main
from launch.cluster import ClusterConfig
from launch.job_commands import cancel, log_files
from launch.job_record import JobRecord, read_jobs, record_job
from launch.probes.jobs import submit_missing_probes
from launch.probes.permission import allow_probes
from launch.probes.states import Settling
from launch.run_config import LOCK_FILE
from launch.run_status import read_status
from launch.starts import Start, write_starts
from launch.status_command import status_lines
from launch.watch_command import Stop, watch

HOLD_UNTIL_STOPPED = """
import pathlib, sys, time
from data_sharding.folder_lock import held
from launch.preemption import StopRequest

stop = StopRequest()
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    while not stop():
        time.sleep(0.02)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has logged 40 of 100 steps of 64 samples, at 256 a second, half of it waiting."""
    folder = tmp_path / "run"
    folder.mkdir()
    pretrain = {"total_steps": 100, "batch": {"global_samples": 64}}
    (folder / "config.json").write_text(json.dumps({"pretrain": pretrain}))
    lines = [
        {"step": step, "samples": 64.0 * step, "speed/samples_per_second": 256.0}
        | {"data/wait_share": 0.5}
        for step in (10, 20, 30, 40)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def said(run: Path) -> dict[str, str]:
    return {name: text for name, text in status_lines(read_status(run)) if name}


def test_a_status_tells_step_rate_and_what_is_left(run):
    lines = said(run)
    assert lines["step"] == "40 of 100 (40 %)"
    assert lines["rate"].startswith("128.0 samples/s, last logged 0:00:0")
    assert lines["to go"] == "0:00:30 at this rate"
    assert lines["checkpoint"] == "none yet"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (None, "ended without a word"),
        (75, "stopped with exit code 75: a signal asked for a stop"),
        (76, "stopped with exit code 76: saved, but the run has collapsed"),
    ],
)
def test_a_status_tells_how_the_last_start_ended(run, code, sentence):
    write_starts(run, [Start(furthest=0, from_step=0, ranks=1, drift={}, code=code)])
    assert said(run)["state"].startswith(sentence)


def test_a_status_names_who_works_in_the_folder(run):
    assert said(run)["state"] == "not started yet"
    with held(run / LOCK_FILE) as holder:
        assert said(run)["state"] == f"running: {holder}"


def test_a_folder_that_is_no_run_has_no_status(capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["status", str(tmp_path)])
    assert f"{tmp_path}: no run folder: it holds no config.json" in capsys.readouterr().err


def test_jobs_are_remembered_across_a_line_cut_short(run):
    record_job(run, JobRecord(kind="pretrain", job_id="7", name="pretrain-run"))
    with (run / "jobs.jsonl").open("a") as file:
        file.write('{"kind": "probe", "job')
    assert [job.job_id for job in read_jobs(run)] == ["7"]
    record_job(run, JobRecord(kind="probe", job_id="8", name="probe-0123", tasks=("a", "b")))
    assert [(job.job_id, job.tasks) for job in read_jobs(run)] == [("7", ()), ("8", ("a", "b"))]


def test_logs_are_those_of_the_newest_pretraining_job(run):
    for kind, job_id in (("pretrain", "7"), ("pretrain", "9"), ("probe", "11")):
        record_job(run, JobRecord(kind=kind, job_id=job_id, name=kind))
    (run / "logs").mkdir()
    for name in ("7_0_log.out", "9_0_log.out", "9_0_log.err", "9_1_log.err", "11_1_0_log.out"):
        (run / "logs" / name).touch()
    names = [file.name for file in log_files(run, None, 0)]
    assert names == ["9_0_log.out", "9_0_log.err"]
    assert [file.name for file in log_files(run, "11", 1)] == ["11_1_0_log.out"]
    with pytest.raises(ValueError, match="job 8 is none of its; there are 7, 9, 11"):
        log_files(run, "8", 0)
    with pytest.raises(ValueError, match="rank 5 of job 9 has written nothing yet"):
        log_files(run, "9", 5)


def test_a_run_on_this_machine_is_asked_to_save_and_stop(run):
    command = [sys.executable, "-c", HOLD_UNTIL_STOPPED, str(run / LOCK_FILE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        told = cancel(run, now=False)
        assert process.wait(20) == 0
    assert len(told) == 1
    assert told[0].startswith(f"process {process.pid} on ")
    assert told[0].endswith("saves and stops at its next step")
    assert cancel(run, now=False) == []


def test_a_watch_beside_a_run_that_is_cancelled_submits_nothing_again_and_ends(run):
    def look():
        return submit_missing_probes(run, ("topics",), ClusterConfig(), Settling(0.0))

    assert look().submitted == []
    assert cancel(run, now=False) == []
    with pytest.raises(ValueError, match=r"cancelled at .* UTC, so its probes are not submitted"):
        watch(run, ("topics",), 100, look, Stop(), every_seconds=0.01)
    allow_probes(run)  # the run is begun again
    assert look().submitted == []


def test_a_cancel_goes_on_where_probes_cannot_be_forbidden(run):
    (run / "probes").write_text("no folder")
    [told] = cancel(run, now=False)
    assert told.startswith("probes may be submitted again, for this failed: ")
