"""Scenes of the fault drill: signals, numbers that are none, other jobs, other numbers of ranks."""

import os
import signal
import time
from dataclasses import replace

from drill_looks import INTERVAL, committed, expect, in_flight, last_step, same_losses, same_state
from drill_run import Ground, Launched, Seen, Trial

from launch.guard_config import GuardConfig
from launch.preemption import EXIT_NOT_FINITE, EXIT_REFUSED, EXIT_REQUEUE, EXIT_STALLED
from launch.run_config import save_run_config
from launch.starts import read_starts

WATCHDOG_SECONDS = 12.0
TOLERANCE = 1e-5
"""Relative, of a loss after the number of ranks has changed: sums are rounded otherwise."""

PARTS = ((2, 1), (1, 2), (3, 3), (2, 1))
"""Ranks and ZeRO stage, start after start."""

TOLD = "batch passed over: rank 1: audio features not finite"
"""What is said of rank 1's sound that is no number."""


def signal_while_saving(ground: Ground) -> Seen:
    """USR2 to one rank while a checkpoint is being written, then SIGTERM to the launcher."""
    ground.run_undisturbed()
    trial = Trial(ground, "signals")
    with trial.start("1", "slow", "open *rank-00001.part/*", "0.3") as launched:
        second = launched.ranks()[1]
        launched.until(lambda: bool(in_flight(trial.run)), "a checkpoint in flight")
        os.kill(second, signal.SIGUSR2)
        time.sleep(0.1)
        os.kill(launched.pid, signal.SIGTERM)
        launched.ends_with(EXIT_REQUEUE)
    steps, stopped_at = committed(trial.run), last_step(trial.run)
    expect(steps == sorted({INTERVAL, stopped_at}), f"{steps} are saved, stopped at {stopped_at}")
    expect(not in_flight(trial.run), "something half written is left")
    trial.go_on()
    trial.is_as_undisturbed()
    expect(sum(trial.steps_lost) == 0, "steps were lost although a signal asked for a stop")
    return Seen(
        times=2,
        seen=f"exit {EXIT_REQUEUE}; that checkpoint and one of the last step are whole",
        steps_lost=trial.steps_lost,
    )


def bad_batches(ground: Ground) -> Seen:
    """Sound that is no number, in every batch that one rank reads from some step on."""
    ground.run_undisturbed()
    trial = Trial(ground, "bad-batches")
    with trial.start("1", "poison", str(INTERVAL + 2), "1000") as launched:
        launched.ends_with(EXIT_NOT_FINITE)
    expect(TOLD in trial.said, "nobody was told of rank 1")
    good = trial.run / "checkpoints" / f"step-{INTERVAL:08d}"
    expect(f"last good checkpoint: {good}" in trial.said, f"{good} is not named")
    trial.go_on()
    trial.is_as_undisturbed()
    return Seen(
        times=3,
        seen=f"exit {EXIT_NOT_FINITE} after 3, rank, samples and last good checkpoint named",
        steps_lost=trial.steps_lost,
    )


def one_bad_batch(ground: Ground) -> Seen:
    """The same in one batch of one rank; then a kill. It must not matter which rank it was."""
    trials = [Trial(ground, f"bad-batch-{rank}") for rank in range(2)]
    with trials[0].start("0", "poison", str(INTERVAL + 2), "1") as launched:
        launched.until_steps(2 * INTERVAL + 1)
        launched.stop()
    with trials[1].start("1", "poison", str(INTERVAL + 2), "1") as launched:
        launched.until(lambda: 2 * INTERVAL in committed(trials[1].run), "a checkpoint after it")
        os.kill(launched.ranks()[1], signal.SIGKILL)
        launched.ended()
    trials[1].go_on()
    trials[0].go_on()
    expect(trials[1].said.count(TOLD) == 1, "it was not said once")
    shorter, longer = sorted((trial.run for trial in trials), key=last_step)
    same_losses(shorter, longer)
    same_state(shorter, longer)
    return Seen(
        times=2,
        seen="passed over by all ranks, and the same weights whichever rank had it",
        steps_lost=trials[1].steps_lost,
    )


def second_job(ground: Ground) -> Seen:
    """Another start on the folder of a run that goes on."""
    ground.run_undisturbed()
    trial = Trial(ground, "second")
    with trial.start() as launched:
        launched.until_steps(1)
        rank = launched.ranks()[1]
        os.kill(rank, signal.SIGSTOP)  # so that it is still there, however long the other takes
        second = Launched(trial.run, 2, trial.said_file)
        expect((code := second.code()) == EXIT_REFUSED, f"the second job ended with {code}")
        os.kill(rank, signal.SIGCONT)
        expect("is in use by process" in trial.said, "nobody was told by whom")
        steps = launched.steps()
        launched.until_steps(steps + INTERVAL + 1)
        expect((code := launched.stop()) == EXIT_REQUEUE, f"the first job ended with {code}")
    trial.go_on()
    trial.is_as_undisturbed()
    return Seen(
        times=1,
        seen=f"exit {EXIT_REFUSED}, owner named; the first goes on undisturbed",
        steps_lost=trial.steps_lost,
    )


def stopped_rank(ground: Ground) -> Seen:
    """A rank that is there and does nothing (SIGSTOP)."""
    ground.run_undisturbed()
    guard = GuardConfig(watchdog_minutes=WATCHDOG_SECONDS / 60)
    trial = Trial(ground, "stopped", guard=guard)
    with trial.start() as launched:
        launched.until_steps(INTERVAL + 1)
        second = launched.ranks()[1]
        os.kill(second, signal.SIGSTOP)
        stopped = time.monotonic()
        launched.ends_with(EXIT_STALLED)
        seconds = time.monotonic() - stopped
    expect(f"rank 1 (process {second}" in trial.said, "the stopped rank was not named")
    expect("stopped by a signal" in trial.said, "it was not said that it was stopped")
    trial.go_on()
    trial.is_as_undisturbed()
    return Seen(
        times=1,
        seen=f"exit {EXIT_STALLED} after {seconds:.0f} s (bound of {WATCHDOG_SECONDS:.0f} s), "
        "rank named, stacks of both written",
        steps_lost=trial.steps_lost,
        seconds={"to the end": [seconds]},
    )


def other_numbers_of_ranks(ground: Ground) -> Seen:
    """2 -> 1 -> 3 -> 2 ranks, and the ZeRO stage changes too."""
    ground.run_undisturbed()
    trial = Trial(ground, "elastic")
    for ranks, stage in PARTS:
        pretrain = replace(trial.config.pretrain, zero_stage=stage)
        save_run_config(replace(trial.config, ranks=ranks, pretrain=pretrain))
        trial.go_on(ranks=ranks)
    changed_at = read_starts(trial.run)[1].from_step
    same_losses(trial.run, ground.undisturbed, TOLERANCE, exact_until=changed_at)
    expect(sum(trial.steps_lost) == 0, "steps were lost at a change")
    return Seen(
        times=len(PARTS) - 1,
        seen=f"{last_step(trial.run)} losses within {TOLERANCE:g}",
        steps_lost=trial.steps_lost,
    )
