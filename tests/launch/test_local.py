import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.local import run_ranks

LAUNCHER = "import sys; from launch.local import run_ranks; sys.exit(run_ranks(sys.argv[2:], 2))"


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def wait_for(paths: list[Path]) -> None:
    deadline = time.monotonic() + 20
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ranks_are_told_of_each_other(tmp_path):
    names = "RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT"
    command = f"echo ${' $'.join(names.split())} > {tmp_path}/$RANK"
    assert run_ranks(["sh", "-c", command], 3) == 0
    said = [(tmp_path / str(rank)).read_text().split() for rank in range(3)]
    assert [words[:4] for words in said] == [
        ["0", "0", "3", "127.0.0.1"], ["1", "1", "3", "127.0.0.1"], ["2", "2", "3", "127.0.0.1"],
    ]  # fmt: skip
    assert len({words[4] for words in said}) == 1


def test_the_first_failure_is_the_exit_code_and_ends_the_others():
    command = ["sh", "-c", 'if [ "$RANK" = 1 ]; then exit 75; fi; exec sleep 60']
    before = time.monotonic()
    assert run_ranks(command, 2) == 75
    assert time.monotonic() - before < 10


def test_a_rank_that_a_signal_ended_counts_as_failed_and_is_named(capfd):
    command = ["sh", "-c", 'if [ "$RANK" = 1 ]; then kill -9 $$; fi; exec sleep 60']
    assert run_ranks(command, 2) == 137
    assert capfd.readouterr().err == "triptych: rank 1 was ended by signal 9\n"


def test_a_rank_that_does_not_stop_is_killed_after_a_while():
    text = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "time.sleep(1)\n"
        "sys.exit(3) if os.environ['RANK'] == '1' else time.sleep(60)\n"
    )
    before = time.monotonic()
    assert run_ranks(script(text), 2, grace_seconds=1.0) == 3
    assert time.monotonic() - before < 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_request_to_stop_reaches_every_rank_which_may_finish(tmp_path, number):
    text = (
        "import os, pathlib, signal, sys, time\n"
        "def stop(number, frame):\n"
        "    time.sleep(0.3)\n"
        "    mark.with_suffix('.saved').touch()\n"
        "    sys.exit(75)\n"
        f"signal.signal({int(number)}, stop)\n"
        "mark = pathlib.Path(sys.argv[1]) / os.environ['RANK']\n"
        "mark.touch()\n"
        "time.sleep(60)\n"
    )
    command = [*script(LAUNCHER), "--", *script(text), str(tmp_path)]
    launcher = subprocess.Popen(command)
    wait_for([tmp_path / "0", tmp_path / "1"])
    launcher.send_signal(number)
    assert launcher.wait(20) == 75
    assert {path.name for path in tmp_path.glob("*.saved")} == {"0.saved", "1.saved"}


def test_ranks_die_with_a_launcher_that_was_killed(tmp_path):
    command = ["sh", "-c", f"echo $$ > {tmp_path}/$RANK.part; mv {tmp_path}/$RANK.part "
               f"{tmp_path}/$RANK; exec sleep 60"]  # fmt: skip
    launcher = subprocess.Popen([*script(LAUNCHER), "--", *command])
    wait_for([tmp_path / "0", tmp_path / "1"])
    ranks = [int((tmp_path / name).read_text()) for name in ("0", "1")]
    launcher.kill()
    launcher.wait()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    assert os.getpid() != pid
    return state != "Z"
