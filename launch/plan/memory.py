"""What a rank holds in memory, by ZeRO stage."""

import os
from dataclasses import dataclass

from launch.plan.batch import accumulation_steps, micro_samples
from launch.plan.chapter import Chapter, gigabytes, millions
from launch.plan.passes import Entries, Passes
from launch.run_config import RunConfig
from pretrain.memory import KeptBytes, Sharing, kept_bytes, passing_bytes

STAGES = (0, 1, 2, 3)

BESIDE_BYTES = 3e9
"""CUDA's context, NCCL's buffers, cuBLAS workspaces, the allocator's gaps: seen from 2 to 4 GB."""


@dataclass(frozen=True, kw_only=True)
class RankMemory:
    """A rank's memory at one ZeRO stage: what lies there between steps, what a step adds."""

    kept: KeptBytes
    passing: float
    activations: float

    @property
    def total(self) -> float:
        """At the worst moment, without what CUDA and NCCL take."""
        return self.kept.total + self.passing


def rank_memory(config: RunConfig, entries: Entries, activations: float, stage: int) -> RankMemory:
    """Bytes of one rank of a run, were it at that ZeRO stage."""
    sharing = Sharing(
        zero_stage=stage,  # pyright: ignore[reportArgumentType]
        precision=config.pretrain.precision,
        ranks=config.world_size,
    )
    return RankMemory(
        kept=kept_bytes(entries.sizes, sharing),
        passing=passing_bytes(entries.sizes, sharing, activations),
        activations=activations,
    )


def network_chapter(entries: Entries) -> Chapter:
    """How many weights the networks have. Exact."""
    chapter = Chapter("Networks")
    parts = ", ".join(f"{name} {millions(count)}" for name, count in entries.by_part.items())
    sizes = entries.sizes
    online = sum(entries.by_part.values())
    chapter.tell("online", f"{millions(online)} weights: {parts}")
    frozen = f", {millions(sizes.frozen)} of the backbone frozen" if sizes.frozen else ""
    chapter.tell("target", f"{millions(sizes.target + sizes.frozen)} weights{frozen}")
    return chapter


def memory_chapter(
    config: RunConfig, entries: Entries, passes: Passes, gpu_bytes: float | None
) -> Chapter:
    """Memory of a rank by ZeRO stage, and whether the chosen one fits.

    Args:
        config: The run.
        entries: Of its networks.
        passes: Of one micro-batch.
        gpu_bytes: Memory of a GPU; None where the ranks have none.
    """
    place = "GPU" if gpu_bytes is not None else "rank"
    chapter = Chapter(f"Memory of a {place}, ZeRO stage {config.pretrain.zero_stage} chosen")
    stages = {s: rank_memory(config, entries, float(passes.activation_bytes), s) for s in STAGES}
    memories, chosen = list(stages.values()), config.pretrain.zero_stage
    rows = [
        ("GB", [f"{'*' if stage == chosen else ''}ZeRO {stage}" for stage in STAGES]),
        ("weights, online and target", _cells([m.kept.weights for m in memories])),
        ("float32 masters", _cells([m.kept.masters for m in memories])),
        ("optimizer's moments", _cells([m.kept.moments for m in memories])),
        (
            "gradients and buffers",
            _cells([m.kept.gradients + m.passing - m.activations for m in memories]),
        ),
        ("activations", _cells([m.activations for m in memories])),
        ("in all", _cells([m.total for m in memories])),
    ]
    chapter.tell_rows(rows, 10)
    micro = micro_samples(config)
    kept = config.pretrain.activation_checkpointing
    again = ", encoders computed again" if kept == "encoders" else ""
    chapter.tell(
        "how",
        "weights, masters and moments by a formula that was measured; activations traced op by op "
        f"without content, for {micro} samples of two views{again}; gradients and buffers are an "
        "upper bound",
    )
    if gpu_bytes is None:
        _check_host(chapter, config, stages[chosen])
    else:
        _check_gpu(chapter, config, stages, gpu_bytes)
    return chapter


def _check_gpu(
    chapter: Chapter, config: RunConfig, stages: dict[int, RankMemory], gpu_bytes: float
) -> None:
    room = gpu_bytes - BESIDE_BYTES
    chosen = stages[config.pretrain.zero_stage]
    fitting = [str(stage) for stage, memory in stages.items() if memory.total <= room]
    chapter.tell(
        "GPU",
        f"{gigabytes(gpu_bytes)} assumed (--gpu-memory-gb), {gigabytes(BESIDE_BYTES)} of it for "
        f"CUDA and NCCL: {_fits(fitting)}",
    )
    if chosen.total > room:
        chapter.find(
            f"pretrain.zero_stage {config.pretrain.zero_stage} needs about "
            f"{gigabytes(chosen.total + BESIDE_BYTES)} of a GPU's {gigabytes(gpu_bytes)}: "
            f"{'; or '.join(_ways(config, chosen, room, fitting))}"
        )


def _fits(fitting: list[str]) -> str:
    if not fitting:
        return "no stage fits"
    names = ", ".join(fitting)
    return f"stages {names} fit" if len(fitting) > 1 else f"stage {names} fits"


def _ways(config: RunConfig, chosen: RankMemory, room: float, fitting: list[str]) -> list[str]:
    """What would make the run fit."""
    ways = [f"set pretrain.zero_stage {fitting[0]}"] if fitting else []
    micro, share = micro_samples(config), micro_samples(config) * accumulation_steps(config)
    rest = room - (chosen.total - chosen.activations)
    # Activations are in proportion to the samples, all but the views of a rank's whole share.
    least = micro * max(0.0, rest) / chosen.activations
    if divisors := [d for d in range(1, micro) if share % d == 0 and d <= least]:
        ways.append(f"set pretrain.batch.micro_samples {divisors[-1]}")
    if config.pretrain.activation_checkpointing == "off":
        ways.append("set pretrain.activation_checkpointing encoders")
    return ways or ["take larger GPUs or a smaller backbone"]


def _check_host(chapter: Chapter, config: RunConfig, chosen: RankMemory) -> None:
    """Ranks without a GPU share their node's memory."""
    slurm = config.slurm
    if config.cluster == "slurm":
        ranks, room = slurm.ranks_per_node, slurm.memory_gb and slurm.memory_gb * 2**30
        advice = "ask for more slurm.memory_gb"
    else:
        ranks, advice = config.ranks, "start fewer ranks"
        room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if not room:
        return
    needed = ranks * chosen.total
    chapter.tell("node", f"{ranks} ranks need {gigabytes(needed)} of its {gigabytes(room)}")
    if needed > room:
        chapter.find(
            f"{ranks} ranks on a node need {gigabytes(needed)} of its {gigabytes(room)}: {advice}, "
            "or set a smaller pretrain.batch.micro_samples"
        )


def _cells(sizes: list[float]) -> list[str]:
    return [f"{size / 1e9:.2f}" for size in sizes]
