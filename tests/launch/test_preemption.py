"""How a rank ends once it has saved."""

import signal
import subprocess
import sys
import time

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
