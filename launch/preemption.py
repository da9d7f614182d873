"""How a rank ends: what its exit code says, and the request to stop."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_REFUSED = 2
EXIT_STALLED = 60
"""Also the number of the signal by which the watchdog ends a rank."""
EXIT_REQUEUE = 75
"""EX_TEMPFAIL: the one code with which Slurm is asked to queue the job again."""
EXIT_COLLAPSED = 76
EXIT_NOT_FINITE = 77
EXIT_CRASH_LOOP = 78

EXIT_CODES = {
    "0": "the run is at its end, or was already",
    "1": "a bug, or the loss of another rank; the traceback tells",
    f"{EXIT_REFUSED}": "refused, or something that you can mend; one line says it",
    f"{EXIT_STALLED}": "no progress; stalls/ in the run folder has the stacks, and names the "
    "slowest rank",
    f"{EXIT_REQUEUE}": "a signal asked for a stop, and all is saved: start it again with --resume",
    f"{EXIT_COLLAPSED}": "saved, but the run has collapsed: to start it again as it is would not "
    "help",
    f"{EXIT_NOT_FINITE}": "too many batches in a row had a loss or gradient that is not finite",
    f"{EXIT_CRASH_LOOP}": "the last starts came no step further, so this one was refused",
    "128 + n": "signal n ended a rank; 137 is kill -9, or too much memory",
}
"""What each exit code of `triptych pretrain` and of its ranks says."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """Remembers that a signal asked for a stop; the trainer looks after each step.

    Repeated signals change nothing, and SIGCONT, which Slurm sends along, is ignored. Signals that
    came before this was made, and were held up by who started this program, count too.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        for number in SIGNALS:
            signal.signal(number, self._remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal_name is not None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        first = self.signal_name is None
        self.signal_name = signal.Signals(number).name
        rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
        if first and rank == "0":
            text = f"triptych: {self.signal_name}: stopping after this step\n"
            with suppress(OSError):  # nobody reads it any more
                # `print` could interrupt another print, which Python refuses.
                os.write(2, text.encode())


def ignore_signals() -> None:
    """From here on, where all is saved, no signal is to change how this process ends.

    srun ends the other ranks once one has left with another code than 0, as all do that saved and
    stopped. To hold signals up is not enough: it concerns one thread, and Python takes its own
    handlers away before the process has ended.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def exit_code_kept() -> Iterator[None]:
    """End this process after the block as Python would, but without taking Python down.

    A thread of gloo that is late to let go of the last collective's tensors, as on a busy machine,
    aborts a process whose Python is being taken down ("terminate called without an active
    exception"): a rank that has saved would end with 134. torch 2.14, pytorch/pytorch issue 190489.
    """
    code = 0
    try:
        yield
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    # What Python does before it takes itself down, in its order.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)
