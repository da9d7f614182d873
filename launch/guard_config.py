"""What ends a run that does not go on by itself."""

from dataclasses import dataclass

VISIBLE_SECONDS = 60.0
"""How late a node may see a new file: as long as NFS keeps what it knows of a folder."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Bounds on waiting: for a step, for the other ranks, for a dead job's lock."""

    watchdog_minutes: float = 15.0
    """Without a finished step, checkpoint or evaluation for so long a rank counts as stuck: the
    stacks of all ranks go into `stalls/`, the slowest is named, and the run ends."""

    start_minutes: float = 45.0
    """The same before the first step is done, which may load, warm up and compile."""

    collective_minutes: float = 60.0
    """How long an exchange between ranks waits for the last one before it fails; more than the two
    above, which can tell who is missing."""

    lock_minutes: float = 3.0
    """How long the lock of a job on another machine must lie untouched before it is taken over."""

    max_starts: int = 3
    """So many starts in a row that came no step further: the next is refused. A start that a
    signal stopped does not count, but for a Slurm job's, which is queued again by itself."""

    def __post_init__(self) -> None:
        for name in ("watchdog_minutes", "start_minutes", "collective_minutes", "lock_minutes"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                raise ValueError(f"guard.{name} must be positive, got {value}")
        if self.max_starts < 1:
            raise ValueError(f"guard.max_starts must be positive, got {self.max_starts}")
        if self.collective_minutes <= max(self.watchdog_minutes, self.start_minutes):
            raise ValueError(
                f"guard.collective_minutes must be more than watchdog_minutes and start_minutes "
                f"({self.watchdog_minutes} and {self.start_minutes}), got {self.collective_minutes}"
            )
