"""What the scenes of the fault drill share: where it takes place, a run, its starts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from drill_looks import (
    INTERVAL,
    SurpriseError,
    committed,
    expect,
    in_flight,
    last_step,
    metrics_inode,
    processes_of,
    same_losses,
    same_state,
)

from data_sharding.stream.loader import LoaderConfig
from data_sharding.stream.order import OrderConfig
from launch.guard_config import GuardConfig
from launch.preemption import EXIT_REQUEUE
from launch.run_config import RunConfig, prepare_run
from launch.starts import read_starts
from pretrain.config import BatchConfig, DataConfig
from pretrain.health import HealthConfig
from pretrain.views import AudioViewConfig, ViewsConfig
from tiny import tiny_run

HANG_SECONDS = 300.0
"""What is waited for longer than this is a hang: a start takes ten seconds on an idle machine."""

END_SECONDS = 60.0
"""How long all processes of a start may take to end once one was hurt."""

HERE = Path(__file__).parent
LAUNCHER = (
    "import sys; from launch.local import run_ranks; from launch.preemption import SIGNALS;"
    "sys.exit(run_ranks(sys.argv[2:], int(sys.argv[1]), held_up=SIGNALS))"
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a scene has shown.

    Attributes:
        times: How often the fault was dealt.
        seen: In words.
        steps_lost: By start: steps that were done and had to be done again.
        seconds: Durations by name.
    """

    times: int
    seen: str
    steps_lost: list[int]
    seconds: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where the drill takes place.

    Attributes:
        folder: For runs.
        shards: What they read.
        seed: Of what is random.
        kills: How many random ones.
    """

    folder: Path
    shards: Path
    seed: int
    kills: int

    @property
    def undisturbed(self) -> Path:
        """A run of two ranks that nothing happens to; see `run_undisturbed`."""
        return self.folder / "undisturbed"

    def config(self, run: Path, guard: GuardConfig, keep: int | None = None) -> RunConfig:
        """Of a run that one, two or three ranks can do, with steps enough for all random kills.

        Args:
            run: Its folder.
            guard: Its bounds.
            keep: How many checkpoints stay; None is all.
        """
        loader = LoaderConfig(num_workers=0, order=OrderConfig(lanes=6))
        config = tiny_run(
            run,
            self.shards,
            2,
            data=DataConfig(shards=str(self.shards), loader=loader),
            views=ViewsConfig(audio=AudioViewConfig(mixup_group=2)),
            batch=BatchConfig(global_samples=12),
            total_steps=max(32, 4 * self.kills),
            checkpoint_every_steps=INTERVAL,
            keep_checkpoints=keep,
            health=HealthConfig(every_steps=50, on_collapse="warn"),
        )
        return replace(config, guard=guard)

    def run_undisturbed(self) -> None:
        """Do it, once."""
        if not self.undisturbed.exists():
            prepare_run(self.config(self.undisturbed, GuardConfig()), resume=False)
            launched = Launched(self.undisturbed, 2, self.folder / "undisturbed.txt")
            expect(launched.ended() == 0, "the undisturbed run did not end well")


class Launched:
    """One start of a run.

    Args:
        run: Run folder.
        ranks: How many.
        said: File that takes what it says on stderr.
        hurt: RANK KIND WHAT NUMBER for `hurt.py`, or nothing.
    """

    def __init__(self, run: Path, ranks: int, said: Path, hurt: tuple[str, ...] = ()) -> None:
        self._run = run
        self._before = metrics_inode(run)
        how = [str(HERE / "hurt.py"), *hurt] if hurt else ["-m"]
        rank = [sys.executable, *how, "launch.worker", str(run)]
        path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        with said.open("a") as stderr:
            self._launcher = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(ranks), *rank],
                env={"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": path},
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        self.pid = self._launcher.pid
        self._ranks = ranks

    def ranks(self) -> list[int]:
        """Process ids of the ranks, once all are there."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        self.until(lambda: len(children.read_text().split()) == self._ranks, "ranks")
        return [int(pid) for pid in children.read_text().split()]

    def steps(self) -> int:
        """How many steps this start has done."""
        if metrics_inode(self._run) == self._before:
            return 0
        return last_step(self._run) - read_starts(self._run)[-1].from_step

    def until(self, condition: Callable[[], bool], what: str, poll_seconds: float = 0.02) -> None:
        """Wait for something, while the start goes on."""
        deadline = time.monotonic() + HANG_SECONDS
        while not condition():
            code = self._launcher.poll()
            expect(code is None, f"it ended with {code}, before there was {what}")
            expect(time.monotonic() < deadline, f"a hang: no {what} in {HANG_SECONDS:.0f} s")
            time.sleep(poll_seconds)

    def until_steps(self, number: int) -> None:
        """Wait until this start has done so many steps."""
        self.until(lambda: self.steps() >= number, f"step {number} of this start", 0.05)

    def code(self, seconds: float = HANG_SECONDS) -> int:
        """Wait for the end of the launcher; its exit code."""
        try:
            return self._launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            raise SurpriseError(f"a hang: no end of the launcher in {seconds:.0f} s") from None

    def ended(self, seconds: float = HANG_SECONDS) -> int:
        """Wait for the end of the launcher, and of all processes of the run; its exit code."""
        deadline = time.monotonic() + seconds
        code = self.code(seconds)
        while left := processes_of(self._run):
            expect(time.monotonic() < deadline, f"processes are left over: {left}")
            time.sleep(0.02)
        return code

    def ends_with(self, expected: int, what: str = "it") -> None:
        """Wait for the end, which must come with this exit code."""
        code = self.ended()
        expect(code == expected, f"{what} ended with {code}, not with {expected}")

    def stop(self) -> int:
        """Ask it to save and stop; its exit code."""
        os.kill(self.pid, signal.SIGUSR2)
        return self.ended()

    def give_up(self) -> None:
        """End what is still there, when a scene did not go as expected."""
        if self._launcher.poll() is None:
            self._launcher.kill()
            self._launcher.wait()


class Trial:
    """A run that a scene hurts, start by start; every start is held against what was on disk.

    Args:
        ground: Where.
        name: Of the run.
        folder: Where it lies, if elsewhere.
        guard: Bounds of the run.
        keep: How many of its checkpoints stay; None is all.
    """

    def __init__(
        self,
        ground: Ground,
        name: str,
        folder: Path | None = None,
        guard: GuardConfig | None = None,
        keep: int | None = None,
    ) -> None:
        self.run = (folder or ground.folder) / name
        self.config = ground.config(self.run, guard or GuardConfig(max_starts=1000), keep)
        self.said_file = ground.folder / f"{name}.txt"
        self._ground = ground
        prepare_run(self.config, resume=False)
        self.steps_lost: list[int] = []
        self._counted: int | None = None

    @contextmanager
    def start(
        self,
        *hurt: str,
        ranks: int = 2,
        goes_on_from: int | None = None,
        intervals: int = 1,
    ) -> Iterator[Launched]:
        """A start, which the scene sees to its end.

        Args:
            hurt: See `Launched`.
            ranks: How many.
            goes_on_from: Step of the checkpoint that it should take, where it is not the newest.
            intervals: How many checkpoint intervals may be lost. While a checkpoint is written,
                training goes on until the next is due, so where one was left half written it is 2.
        """
        newest = max(committed(self.run), default=0)
        reached, starts = last_step(self.run), len(read_starts(self.run))
        metrics = metrics_inode(self.run)
        intervals = 2 if in_flight(self.run) else intervals
        launched = Launched(self.run, ranks, self.said_file, hurt)
        try:
            yield launched
        finally:
            launched.give_up()
        written = read_starts(self.run)
        if len(written) == starts:
            return  # it ended before its ranks had met
        from_step = written[starts].from_step
        expected = newest if goes_on_from is None else goes_on_from
        expect(from_step == expected, f"it went on from step {from_step}, not from {expected}")
        if metrics == self._counted:
            return  # the start before did not come to train: what was lost is counted already
        self._counted = metrics
        lost = max(0, reached - from_step)
        expect(
            goes_on_from is not None or lost <= intervals * INTERVAL,
            f"{lost} steps were lost, and a checkpoint is due every {INTERVAL}",
        )
        self.steps_lost.append(lost)

    def go_on(self, steps: int = INTERVAL + 1, ranks: int = 2, intervals: int = 1) -> None:
        """A start without a fault, which does some steps and is asked to stop."""
        with self.start(ranks=ranks, intervals=intervals) as launched:
            launched.until_steps(steps)
            expect(
                (code := launched.stop()) == EXIT_REQUEUE, f"asked to stop, it ended with {code}"
            )

    def is_as_undisturbed(self) -> None:
        """All losses, and weights, moments and target, are bitwise what they should be."""
        same_losses(self.run, self._ground.undisturbed)
        same_state(self.run, self._ground.undisturbed)

    @property
    def said(self) -> str:
        """What all starts said."""
        return self.said_file.read_text()
