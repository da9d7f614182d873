"""A request to stop, from the scheduler or the keyboard."""

import signal
from types import FrameType

EXIT_REQUEUE = 75
"""Exit code of "saved, start me again" (EX_TEMPFAIL)."""

EXIT_COLLAPSED = 76
"""Exit code of "saved, but the run has collapsed": to start it again as it is would not help."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """Remembers that a signal asked for a stop; the trainer looks after each step.

    Repeated signals change nothing, and SIGCONT, which Slurm sends along, is ignored.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.signal_name is not None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
