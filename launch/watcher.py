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
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from launch.preemption import EXIT_STALLED, SIGNALS
from launch.watchdog import Sign, Watched

POLL_SECONDS = (0.05, 5.0)
"""Least and most time between two looks."""

DUMP_SECONDS = 2.0
"""How long a rank may take to write its stacks."""

GATHER_SECONDS = 10.0
"""How long the other ranks' reports are waited for, once all had time to look."""

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


class Watcher:
    """Watches one rank."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._folder = Path(watched.folder)
        self._seen = Sign.read(watched.signs)
        self._silent_seconds = 0.0

    def run(self) -> None:
        """Watch until the rank ends, or end it."""
        while True:
            least, most = POLL_SECONDS
            nap = min(max(self._seen.patience_seconds / 20, least), most)
            before = time.monotonic()
            if rank_has_ended(nap):
                return
            # Time in which this process was stopped with its rank does not count.
            self._look(min(time.monotonic() - before, 2 * nap))
            if self._silent_seconds > self._seen.patience_seconds or self._folder.exists():
                with suppress(ProcessLookupError, FileNotFoundError):  # it has ended meanwhile
                    self._end_stall(nap)
                return

    def _look(self, seconds: float) -> None:
        sign = Sign.read(self._watched.signs)
        self._silent_seconds = self._silent_seconds + seconds if sign == self._seen else 0.0
        self._seen = sign

    def _end_stall(self, nap: float) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        report = self._report()
        reports = self._gather(GATHER_SECONDS + nap)
        if reports[0].rank == report.rank:
            verdict = self._verdict(reports)
            (self._folder / "verdict.txt").write_text(verdict + "\n")
            print(f"triptych: {verdict}", file=sys.stderr, flush=True)
        if report.stopped:
            # It tells its stacks when it goes on, and so not before the others have told theirs.
            os.kill(report.pid, signal.SIGCONT)
            self._write_stacks()
        os.kill(report.pid, EXIT_STALLED)
        if not rank_has_ended(DUMP_SECONDS):
            os.kill(report.pid, signal.SIGKILL)

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
            sign=self._seen,
            silent_seconds=self._silent_seconds,
            stopped=stopped,
            waiting=any(part in main_thread for part in EXCHANGES),
        )
        path = self._folder / f"rank-{report.rank:05d}.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(report)))
        temporary.replace(path)
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

    def _gather(self, seconds: float) -> list[Report]:
        deadline = time.monotonic() + seconds
        while True:
            files = sorted(self._folder.glob("rank-*.json"))
            if len(files) == self._watched.world_size or time.monotonic() > deadline:
                contents = [json.loads(file.read_text()) for file in files]
                return [Report(**c | {"sign": Sign(**c["sign"])}) for c in contents]
            time.sleep(0.1)

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


def main() -> None:
    """Entry point."""
    for number in SIGNALS:  # those that reach the rank are not for us
        signal.signal(number, signal.SIG_IGN)
    Watcher(Watched(**json.loads(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
