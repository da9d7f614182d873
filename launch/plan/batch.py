"""Batch arithmetic, and what the schedules make of it."""

import itertools

from launch.plan.chapter import Chapter
from launch.plan.data import Corpus
from launch.run_config import RunConfig
from pretrain.optim import learning_rate, weight_decay
from pretrain.schedules import ema_tau


def micro_samples(config: RunConfig) -> int:
    """Samples of one forward pass on a rank; near enough where the batch does not fit the ranks."""
    batch, world = config.pretrain.batch, config.world_size
    try:
        return batch.micro_for(world)
    except ValueError:
        share = max(1, batch.global_samples // world)
        return min(share, batch.micro_samples or share)


def accumulation_steps(config: RunConfig) -> int:
    """Micro-batches of a step."""
    share = config.pretrain.batch.global_samples // config.world_size
    return max(1, share // micro_samples(config))


def batch_chapter(config: RunConfig) -> Chapter:
    """How the ranks share a global batch, and what would fit else."""
    chapter = Chapter("Batch")
    pretrain, world = config.pretrain, config.world_size
    total, micro = pretrain.batch.global_samples, micro_samples(config)
    steps = accumulation_steps(config)
    if world * micro * steps == total:
        chapter.tell(
            "global batch",
            f"{total:,} samples = {world} ranks x {micro} a pass x {steps} "
            f"{'passes' if steps > 1 else 'pass'} a step",
        )
    else:
        chapter.tell("global batch", f"{total:,} samples on {world} ranks")
    chapter.tell("others that fit", _others(total, world, pretrain.data.loader.order.lanes))
    share = total // world
    chapter.tell("micro-batches", f"any divisor of {share}: {_divisors_told(share)}")
    if pretrain.objective == "byol" and pretrain.byol.heads.norm == "batch":
        cohort = pretrain.byol.heads.cohort_samples(total)
        where = "within a rank" if micro % cohort == 0 else "over ranks, which exchange them"
        chapter.tell("batch norm", f"statistics of heads over {cohort} samples, {where}")
    chapter.check(lambda: pretrain.check_ranks(world))
    return chapter


def _others(total: int, world: int, lanes: int) -> str:
    """Nearest global batches below and above that ranks and lanes both divide."""
    below = [n for n in range(total - 1, 0, -1) if n % world == 0 and n % lanes == 0][:1]
    above = next(n for n in itertools.count(total + 1) if n % world == 0 and n % lanes == 0)
    return " and ".join(f"{n:,}" for n in [*below, above])


def _divisors_told(share: int) -> str:
    divisors = [str(d) for d in range(1, share + 1) if share % d == 0]
    shown = divisors if len(divisors) <= 10 else [*divisors[:3], "...", *divisors[-6:]]
    return ", ".join(shown)


def schedule_chapter(config: RunConfig, corpus: Corpus) -> Chapter:
    """Tau, learning rate and weight decay in force at the run's start, middle and end."""
    chapter = Chapter("Schedules")
    pretrain = config.pretrain
    optim, total = pretrain.optim, pretrain.total_steps
    warmup = round(optim.warmup_fraction * total)
    chapter.tell("steps", f"{total:,}, of which {warmup:,} warm up the learning rate")
    places = {"step 0": 0, "warmed up": warmup, "half-way": total // 2, "last": total - 1}
    rows = [
        ("", list(places)),
        (
            f"learning rate, {optim.optimizer}",
            [f"{learning_rate(step, total, optim):.3g}" for step in places.values()],
        ),
        ("weight decay", [f"{weight_decay(step, total, optim):.3g}" for step in places.values()]),
    ]
    samples = corpus.source.num_samples if corpus.source else 0
    given = pretrain.ema.base_tau
    tau = given
    if given is None and samples:
        tau = pretrain.ema.tau_for(samples, pretrain.batch.global_samples, total)
    if tau is not None:
        rows.append(("tau", [f"{ema_tau(step, total, tau):.5f}" for step in places.values()]))
    chapter.tell_rows(rows, 12)
    _tell_tau(chapter, config, tau)
    for name, tower in pretrain.backbone.towers.items():
        if tower.frozen:
            chapter.tell(name, "frozen")
        elif tower.learning_rate_scale != 1.0:
            chapter.tell(name, f"{tower.learning_rate_scale:g} of the learning rate")
    return chapter


def _tell_tau(chapter: Chapter, config: RunConfig, tau: float | None) -> None:
    pretrain = config.pretrain
    if tau is None:
        chapter.tell("tau", "the preset for the number of samples, which is not known here")
        return
    memory = 1.0 / (1.0 - tau)
    how = "the preset for these epochs and this batch"
    chapter.tell(
        "base tau",
        f"{tau:.5f}, {how if pretrain.ema.base_tau is None else 'as set'}: at first the target "
        f"remembers about {memory:,.0f} steps",
    )
    if memory > pretrain.total_steps:
        chapter.find(
            f"pretrain.ema.base_tau {tau} remembers {memory:,.0f} steps, more than the run's "
            f"{pretrain.total_steps:,}: the target would stay at its random start; leave it out "
            "for the preset"
        )
