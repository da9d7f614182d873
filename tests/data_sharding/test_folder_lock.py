"""The lock of a folder among real processes, and among machines as far as one can play several."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from data_sharding.folder_lock import HeldError, Holder, held

OWNER = """
import sys, time
from pathlib import Path
from data_sharding.folder_lock import held

def lost(message):
    print(message, flush=True)

with held(Path(sys.argv[1]), stale_seconds=float(sys.argv[2]), on_lost=lost):
    print("taken", flush=True)
    time.sleep(60)
"""

ELSEWHERE = replace(Holder.here(), host="n7", machine="another boot", token="theirs")


@pytest.fixture
def lock(tmp_path):
    return tmp_path / "run.lock"


@contextmanager
def owner_of(lock, stale_seconds=60.0):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", OWNER, str(lock), str(stale_seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "taken\n"
        try:
            yield owner
        finally:
            owner.kill()


def leave(lock, holder):
    """The lock of a process that is not there any more."""
    lock.write_text(json.dumps(asdict(holder)))


def test_a_second_process_is_refused_and_told_who_works_there_since_when(lock):
    with (
        owner_of(lock) as owner,
        pytest.raises(HeldError, match=rf"in use by process {owner.pid} on .* since 20\d\d-"),
        held(lock),
    ):
        pass
    # It died without a word, which is seen at once on its own machine.
    began = time.monotonic()
    with held(lock) as mine:
        assert mine.pid == os.getpid()
        assert time.monotonic() - began < 5.0
    assert not lock.exists()


def test_a_process_that_got_the_dead_owners_number_is_not_the_owner(lock):
    leave(lock, replace(Holder.here(), born="1", token="theirs"))
    with held(lock):
        pass


def test_a_job_that_is_queued_again_takes_over_its_own_lock_and_no_other(lock, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    leave(lock, replace(ELSEWHERE, job="41", restarts=0))
    began = time.monotonic()
    with held(lock):
        assert time.monotonic() - began < 5.0


def test_a_lock_from_another_machine_is_taken_over_once_it_lies_untouched(lock, caplog):
    leave(lock, ELSEWHERE)
    os.utime(lock, (0, 0))  # whatever a clock says
    began = time.monotonic()
    with held(lock, stale_seconds=1.0):
        assert time.monotonic() - began > 1.0
    assert f"waiting up to 1 s for the lock {lock} of process" in caplog.text


def test_a_process_that_lost_its_lock_ends_at_once(lock):
    script = OWNER.replace(", on_lost=lost", "")
    command = [sys.executable, "-c", script, str(lock), "1.2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "taken\n"
        taken = lock.with_suffix(".tmp")
        leave(taken, ELSEWHERE)
        taken.replace(lock)
        assert owner.wait(timeout=30) == 2
        assert "was taken over by process" in owner.stderr.read()


def test_a_lock_that_is_touched_meanwhile_is_respected(lock):
    leave(lock, ELSEWHERE)
    toucher = subprocess.Popen(["sh", "-c", f"while sleep 0.1; do touch {lock}; done"])
    with pytest.raises(HeldError, match="n7"), held(lock, stale_seconds=1.0):
        pass
    toucher.kill()
    toucher.wait()
    assert json.loads(lock.read_text())["token"] == "theirs"


def test_an_owner_that_was_taken_for_dead_is_told_when_it_wakes(lock):
    with owner_of(lock, stale_seconds=1.2) as owner:
        owner.send_signal(signal.SIGSTOP)
        lock.write_text(lock.read_text().replace(Holder.here().machine, "another boot"))
        with held(lock, stale_seconds=1.2):
            owner.send_signal(signal.SIGCONT)
            assert f"taken over by process {os.getpid()}" in owner.stdout.readline()


def test_of_many_that_find_a_dead_lock_one_gets_it(lock):
    leave(lock, replace(Holder.here(), born="1", token="theirs"))
    script = OWNER.replace("time.sleep(60)", "time.sleep(3)")
    command = [sys.executable, "-c", script, str(lock), "60"]
    many = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(6)
    ]
    said = [one.communicate(timeout=60)[0] for one in many]
    assert sorted(said) == ["", "", "", "", "", "taken\n"]


def test_a_lock_that_the_disk_had_no_room_for_is_not_left_for_others_to_wait_for(lock):
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n" + OWNER
    )
    command = [sys.executable, "-c", script, str(lock), "60"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"File too large: '{lock}'" in refused.stderr
    assert not lock.exists()
