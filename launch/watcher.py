"""The process beside a rank: ``python -m launch.watcher JSON``. Its input ends with its rank.

Without a sign of life for too long, or when another rank's watcher has found so, it
writes down what its rank is at, with the stacks of all its threads; the first one that is left
compares the ranks and names the slowest; then each ends its own rank.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from launch.guard_config import VISIBLE_SECONDS
from launch.preemption import EXIT_STALLED, SIGNALS
from launch.watchdog import Sign, Watched

POLL_SECONDS = (0.05, 5.0)
"""Least and most time between two looks."""

DUMP_SECONDS = 2.0
"""How long a rank may take to write its stacks."""

GATHER_POLL_SECONDS = 1.0
"""Time between two looks for the other ranks' reports, where many ranks look at one server."""

EXCHANGES = ("torch/distributed/", "deepspeed/comm/")
"""Parts of file names on the stack of a thread that waits for other ranks."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a rank was at."""

    rank: int
    host: str
    pid: int
    sign: Sign
    silent_seconds: float
    stopped: bool
    """Whether the process was stopped, as by SIGSTOP."""

    waiting: bool
    """Whether its main thread waited for other ranks."""

    @classmethod
    def read(cls, file: Path) -> "Report":
        """What a rank's watcher has written."""
        content = json.loads(file.read_text())
        return cls(**content | {"sign": Sign(**content["sign"])})

    def __str__(self) -> str:
        state = "stopped by a signal" if self.stopped else "waiting for the others"
        here = f" ({state})" if self.stopped or self.waiting else ""
        return (
            f"rank {self.rank} (process {self.pid} on {self.host}): {self.sign.doing}, "
            f"{self.sign.step} steps done, silent for {self.silent_seconds:.0f} s{here}"
        )


def slowest(reports: Sequence[Report]) -> list[Report]:
    """The ranks that are furthest behind: fewest signs of life, then not waiting for others."""

    def place(report: Report) -> tuple[int, bool]:
        return report.sign.count, report.waiting

    return [report for report in reports if place(report) == min(map(place, reports))]


class Silence:
    """How long a rank has given no sign of life, and its last one. Touches no storage."""

    def __init__(self, signs: int) -> None:
        self._signs = signs
        self.sign = Sign.read(signs)
        self.seconds = 0.0

    def rank_ends_in_nap(self) -> bool:
        """Wait a part of the rank's patience, then look; whether the rank has ended meanwhile."""
        before = time.monotonic()
        if rank_has_ended(self.nap_seconds):
            return True
        # Time in which this process was stopped with its rank does not count.
        passed = min(time.monotonic() - before, 2 * self.nap_seconds)
        sign = Sign.read(self._signs)
        self.seconds = self.seconds + passed if sign == self.sign else 0.0
        self.sign = sign
        return False

    @property
    def nap_seconds(self) -> float:
        """Time between two looks."""
        least, most = POLL_SECONDS
        return min(max(self.sign.patience_seconds / 20, least), most)

    def exceeds(self, slack_seconds: float = 0.0) -> bool:
        """Whether the rank's patience, and so much more, has passed."""
        return self.seconds > self.sign.patience_seconds + slack_seconds


class Watcher:
    """Watches one rank."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._folder = Path(watched.folder)
        self._silence = Silence(watched.signs)

    def run(self) -> None:
        """Watch until the rank ends, or end it."""
        threading.Thread(target=self._end_at_last, daemon=True).start()
        while not self._silence.rank_ends_in_nap():
            if self._silence.exceeds() or self._others_stall():
                try:
                    self._report_stall()
                except OSError as error:
                    if not rank_has_ended(0.0):
                        _say(f"{self._state()}; no report of it could be written: {error}")
                finally:
                    self._end_rank()
                return

    def _others_stall(self) -> bool:
        try:
            return self._folder.exists()
        except OSError:  # storage that fails says nothing about a rank
            return False

    def _end_at_last(self) -> None:
        """End a stuck rank whose report hangs with the storage it is written to."""
        silence = Silence(self._watched.signs)
        while not silence.rank_ends_in_nap():
            if silence.exceeds(self._watched.slack_seconds):
                self._end_rank()
                _say(f"{self._state()}; no report of it could be written in time")
                os._exit(0)

    def _state(self) -> str:
        sign = self._silence.sign
        return f"rank {self._watched.rank} is stuck: {sign.doing}, {sign.step} steps done"

    def _end_rank(self) -> None:
        if rank_has_ended(0.0):
            return
        with suppress(ProcessLookupError):  # it ends at this moment
            os.kill(self._watched.pid, signal.SIGCONT)
            os.kill(self._watched.pid, EXIT_STALLED)
            if not rank_has_ended(DUMP_SECONDS):
                os.kill(self._watched.pid, signal.SIGKILL)

    def _report_stall(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        report = self._report()
        files = self._gather(VISIBLE_SECONDS + self._silence.nap_seconds)
        if files[0] == self._report_file:
            verdict = self._verdict([Report.read(file) for file in files])
            _say(verdict)
            (self._folder / "verdict.txt").write_text(verdict + "\n")
        if report.stopped:
            # It tells its stacks when it goes on, and so not before the others have told theirs.
            os.kill(report.pid, signal.SIGCONT)
            self._write_stacks()

    @property
    def _report_file(self) -> Path:
        return self._folder / f"rank-{self._watched.rank:05d}.json"

    def _report(self) -> Report:
        """Asks the rank for its stacks, and writes down what it is at."""
        pid = self._watched.pid
        stopped = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
        os.kill(pid, signal.SIGQUIT)
        stacks = "" if stopped else self._write_stacks()
        main_thread = stacks.partition("Current thread")[2].partition("\n\n")[0]
        report = Report(
            rank=self._watched.rank,
            host=self._watched.host,
            pid=pid,
            sign=self._silence.sign,
            silent_seconds=self._silence.seconds,
            stopped=stopped,
            waiting=any(part in main_thread for part in EXCHANGES),
        )
        temporary = self._report_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(report)))
        temporary.replace(self._report_file)
        return report

    def _write_stacks(self) -> str:
        stacks = self._stacks()
        (self._folder / f"rank-{self._watched.rank:05d}.txt").write_text(stacks)
        return stacks

    def _stacks(self) -> str:
        """What faulthandler has written, once it writes no more."""
        size, deadline = -1, time.monotonic() + DUMP_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = os.fstat(self._watched.stacks).st_size
            if now == size and now:
                break
            size = now
        text = os.pread(self._watched.stacks, max(size, 0), 0).decode(errors="replace")
        return text or "the process wrote no stacks: it is stuck inside the kernel\n"

    def _gather(self, seconds: float) -> list[Path]:
        """The reports of all ranks, or of those that have one within so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            files = sorted(self._folder.glob("rank-*.json"))
            if len(files) == self._watched.world_size or time.monotonic() > deadline:
                return files
            time.sleep(GATHER_POLL_SECONDS)

    def _verdict(self, reports: Sequence[Report]) -> str:
        behind = "\n".join(f"  {report}" for report in slowest(reports))
        silent = self._watched.world_size - len(reports)
        missing = f"\n{silent} ranks did not report" if silent else ""
        return (
            f"no progress for {max(r.silent_seconds for r in reports):.0f} s, so the run ends "
            f"(guard.watchdog_minutes, guard.start_minutes). Furthest behind:\n{behind}{missing}\n"
            f"The stacks of all ranks: {self._folder}"
        )


def rank_has_ended(seconds: float) -> bool:
    """Whether the rank's end of the pipe closes within so many seconds."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _say(text: str) -> None:
    with suppress(OSError):  # nobody reads it any more
        print(f"triptych: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Entry point."""
    for number in SIGNALS:  # those that reach the rank are not for us
        signal.signal(number, signal.SIG_IGN)
    Watcher(Watched(**json.loads(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
