"""Mean watts of a run between logged steps, over all its GPUs and all its hosts."""

import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.metrics.energy.counter import KINDS, Counter, CounterError

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 10.0
"""A window ends at the first logged step so long after its beginning: counters move in jumps, and
one that has not moved in this time does not count."""
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Reading = Mapping[str, float] | str
"""Joules by part, or why there are none."""


@dataclass(frozen=True, kw_only=True)
class MeteredRun:
    """The ranks, and where what they used is kept.

    Attributes:
        rank: This one.
        gather: Every rank's value, in the order of ranks. Collective.
        sum_over_ranks: Sum of a tensor over all ranks. Collective.
        record: Takes a step and what is to be kept of it; does something on one rank only.
    """

    rank: int
    gather: Callable[[Any], list[Any]]
    sum_over_ranks: Callable[[Tensor], Tensor]
    record: Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class _Window:
    step: int
    began: float
    readings: Mapping[str, Reading]


class EnergyMeter:
    """Reads the counters at logged steps, and tells what was used since.

    A number is of all GPUs, or of all hosts: where one counter cannot be read there is none, and
    the first rank says once why. Hosts are counted once, by the first of their ranks. Where no
    kind of counter can be read by all, nothing is read or exchanged later on.

    Collective, as is `values`: by all ranks at the same step.

    Args:
        openers: By kind, what opens this rank's counter; the kinds are those of all ranks.
        run: The ranks.
        step: Optimizer steps done.
        clock: Seconds.
    """

    def __init__(
        self,
        openers: Mapping[str, Callable[[], Counter]],
        run: MeteredRun,
        step: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._clock = run, clock
        self._told: set[str] = set()
        opened: dict[str, Counter] = {}
        reasons: dict[str, str] = {}
        for kind, opener in openers.items():
            try:
                opened[kind] = opener()
            except CounterError as error:
                reasons[kind] = str(error)
        told = run.gather((_host(), reasons))
        self._world_size = len(told)
        readers = {kind: _readers(kind, [host for host, _ in told]) for kind in openers}
        unread = _summarise([reasons for _, reasons in told], readers)
        self._readers = {kind: who for kind, who in readers.items() if kind not in unread}
        self._counters: dict[str, Counter] = {}
        for kind, counter in opened.items():
            if run.rank in self._readers.get(kind, ()):
                self._counters[kind] = counter
            else:
                counter.close()
        self._tell(unread)
        run.record(step, {"unread": unread})
        self._window = self._read(step)

    def values(self, step: int) -> dict[str, float]:
        """Mean watts since the window began, by name; empty while it is open. Collective.

        Args:
            step: Optimizer steps done, one that is logged.
        """
        if not self._readers:
            return {}
        before, now = self._window, self._read(step)
        seconds = now.began - before.began
        used = {kind: _used(before.readings[kind], now.readings[kind]) for kind in self._counters}
        over_ranks, watts = self._sum(seconds, used)
        if over_ranks < WINDOW_SECONDS:
            return {}
        self._window = now
        unread: dict[str, str] = {}
        if len(watts) < len(self._readers):
            reasons = {kind: value for kind, value in used.items() if isinstance(value, str)}
            unread = _summarise(self._run.gather(reasons), self._readers)
            self._tell(unread)
        joules = {f"{kind}_joules": power * over_ranks for kind, power in watts.items()}
        steps = step - before.step
        self._run.record(step, {"steps": steps, "seconds": over_ranks, **joules, "unread": unread})
        return {f"power/{kind}_watts": power for kind, power in watts.items()}

    def close(self) -> None:
        """Let go of the counters."""
        for counter in self._counters.values():
            counter.close()
        self._counters, self._readers = {}, {}

    def _read(self, step: int) -> _Window:
        """The counters as they are now."""
        readings: dict[str, Reading] = {}
        for kind, counter in self._counters.items():
            try:
                readings[kind] = counter.joules()
            except CounterError as error:
                readings[kind] = str(error)
        return _Window(step, self._clock(), readings)

    def _sum(
        self, seconds: float, used: Mapping[str, float | str]
    ) -> tuple[float, dict[str, float]]:
        """Mean seconds of the ranks, and the watts of those kinds that all readers could read.

        In one exchange, after which all ranks know the same. Collective.
        """
        numbers = [seconds / self._world_size]
        for kind in self._readers:
            joules = used.get(kind)
            if isinstance(joules, float) and seconds > 0.0:
                numbers += [joules / seconds, 1.0]
            else:
                numbers += [0.0, 0.0]
        total = self._run.sum_over_ranks(torch.tensor(numbers, dtype=torch.float64)).tolist()
        watts = {
            kind: power
            for (kind, readers), power, known in zip(
                self._readers.items(), total[1::2], total[2::2], strict=True
            )
            if round(known) == len(readers)
        }
        return total[0], watts

    def _tell(self, unread: Mapping[str, str]) -> None:
        for kind, reason in unread.items():
            if self._run.rank == 0 and kind not in self._told:
                logger.warning(
                    "the energy of %s is not measured, and power/%s_watts not logged: %s",
                    KINDS[kind],
                    kind,
                    reason,
                )
            self._told.add(kind)


def _host() -> str:
    """Tells hosts apart, even where containers give them one name; it is kept nowhere."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return socket.gethostname()


def _readers(kind: str, hosts: Sequence[str]) -> list[int]:
    """The ranks whose counters of a kind make up the whole.

    Args:
        kind: Of counter.
        hosts: By rank.
    """
    ranks = range(len(hosts))
    return [rank for rank in ranks if kind != "cpu" or hosts.index(hosts[rank]) == rank]


def _used(before: Reading, now: Reading) -> float | str:
    """Joules of all parts, or why they are not known."""
    if isinstance(now, str):
        return now
    if isinstance(before, str):
        return before
    for part, joules in now.items():
        if not joules > before[part]:
            return f"{part}'s counter has not grown for {WINDOW_SECONDS:.0f} s or more"
    return float(sum(joules - before[part] for part, joules in now.items()))


def _summarise(
    reasons: Sequence[Mapping[str, str]], readers: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """By kind, the first reason of those ranks that read it.

    Args:
        reasons: Of each rank, by kind.
        readers: By kind, its ranks.
    """
    found = {}
    for kind, ranks in readers.items():
        if failed := [rank for rank in ranks if kind in reasons[rank]]:
            more = f" and {len(failed) - 1} more" if failed[1:] else ""
            found[kind] = f"rank {failed[0]}{more}: {reasons[failed[0]][kind]}"
    return found
