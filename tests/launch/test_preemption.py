"""How a rank ends once it has saved."""

import signal
import subprocess
import sys
import time

import pytest

ENDS = """
import atexit, sys, threading, time
from launch.preemption import exit_code_kept

class Late:
    def __del__(self, say=print):
        say("Python was taken down", flush=True)

late = Late()
atexit.register(print, "last of all", end=".")
threading.Thread(target=lambda: (time.sleep(0.2), print("a thread ends"))).start()
with exit_code_kept():
    {}
"""

ENDS_SLOWLY = """
import ctypes, threading, time
from launch.preemption import StopRequest, ignore_signals

StopRequest()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
ignore_signals()
libc = ctypes.CDLL(None)
libc.on_exit(libc.pause, None)  # after Python has taken its handlers away
print("saved", flush=True)
"""


def test_a_rank_that_has_saved_is_not_ended_by_a_signal_on_its_way_out():
    rank = subprocess.Popen([sys.executable, "-c", ENDS_SLOWLY], stdout=subprocess.PIPE)
    try:
        assert rank.stdout.readline() == b"saved\n"
        time.sleep(1.0)
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGTERM):
            rank.send_signal(number)
        time.sleep(0.5)
        assert rank.poll() is None
    finally:
        rank.kill()
        rank.communicate()


@pytest.mark.parametrize(
    ("last_words", "code", "told"),
    [
        ("sys.exit(75)", 75, ""),
        ("sys.exit()", 0, ""),
        ("pass", 0, ""),
        ("raise RuntimeError('a bug')", 1, "RuntimeError: a bug"),
    ],
)
def test_a_rank_says_all_it_has_to_say_and_keeps_its_exit_code(last_words, code, told):
    """Taken down, Python lets a late thread of gloo abort the process: the code would be lost."""
    program = [sys.executable, "-c", ENDS.format(last_words)]
    rank = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert rank.returncode == code
    assert rank.stdout == "a thread ends\nlast of all."
    assert told in rank.stderr
    assert rank.stderr.count("Traceback") == bool(told)
