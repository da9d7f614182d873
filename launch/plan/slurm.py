"""What the job asks for against what the partition can give.

sbatch takes requests that can never start (EnforcePartLimits is off by default), and the job pends.
"""

from collections.abc import Callable
from dataclasses import dataclass

from launch.cluster import ClusterConfig
from launch.one_job import refuse_second_job
from launch.plan.chapter import Chapter, duration
from launch.plan.limits import Node, Partition, ask_partition
from launch.run_config import RunConfig


def slurm_chapter(config: RunConfig) -> Chapter:
    """The job's request, and why it might never start."""
    chapter = Chapter("Slurm")
    slurm = config.slurm
    chapter.tell("asks for", asked(slurm))
    _check_ranks(chapter, slurm)
    with chapter.finding_errors():
        partition, nodes = ask_partition(slurm.partition)
        _tell_partition(chapter, partition, nodes)
        for finding in partition_findings(slurm, partition):
            chapter.find(finding)
        if config.probe_tasks:
            for finding in _time_findings(
                "slurm.probe_walltime_minutes", slurm.probe_walltime_minutes, partition
            ):
                chapter.find(finding)
        for finding in node_findings(slurm, partition, nodes):
            chapter.find(finding)
        refuse_second_job(config.run)
    return chapter


def asked(slurm: ClusterConfig) -> str:
    """One line of what sbatch is given."""
    words = [
        f"{slurm.nodes} node{'s' * (slurm.nodes > 1)} x {slurm.ranks_per_node} ranks",
        f"{slurm.gpus_per_node} GPUs a node" if slurm.gpus_per_node else "no GPU",
        f"{slurm.cpus_per_task} cores a rank",
        f"{slurm.memory_gb} GiB a node" if slurm.memory_gb else "the cluster's default of memory",
        duration(60 * slurm.walltime_minutes),
        *(
            f"{name} {value}"
            for name in ("partition", "account", "qos", "constraint")
            if (value := getattr(slurm, name))
        ),
    ]
    return ", ".join(words)


def _check_ranks(chapter: Chapter, slurm: ClusterConfig) -> None:
    ranks, gpus = slurm.ranks_per_node, slurm.gpus_per_node
    if gpus and ranks > gpus:
        chapter.find(
            f"slurm.ranks_per_node {ranks} is more than slurm.gpus_per_node {gpus}: a rank without "
            f"a GPU refuses to start; set both to {gpus}"
        )
    if gpus > ranks:
        chapter.find(
            f"slurm.gpus_per_node {gpus} is more than slurm.ranks_per_node {ranks}: "
            f"{gpus - ranks} GPUs of every node would stand idle; set both to {gpus}"
        )


def _tell_partition(chapter: Chapter, partition: Partition, nodes: list[Node]) -> None:
    most = partition.max_minutes
    limit = duration(60 * most) if most is not None else "none"
    up = [node for node in nodes if node.in_service]
    chapter.tell(
        "partition",
        f"{partition.name}, {partition.state}, time limit {limit}, {len(up)} of {len(nodes)} nodes "
        "in service",
    )
    kinds = sorted({(node.cpus, node.gpus, node.memory_mb) for node in up})
    for cpus, gpus, memory in kinds:
        count = sum((node.cpus, node.gpus, node.memory_mb) == (cpus, gpus, memory) for node in up)
        chapter.tell("", f"{count} with {cpus} CPUs, {gpus} GPUs, {memory / 1024:,.0f} GiB")


def partition_findings(slurm: ClusterConfig, partition: Partition) -> list[str]:
    """What the partition itself would never grant."""
    found = []
    if partition.state != "UP":
        found.append(
            f"partition {partition.name} is {partition.state}: no job starts there; name another "
            "in slurm.partition"
        )
    found += _time_findings("slurm.walltime_minutes", slurm.walltime_minutes, partition)
    cpus = slurm.ranks_per_node * slurm.cpus_per_task
    memory = slurm.memory_gb and slurm.memory_gb * 1024
    limits = (
        ("slurm.nodes", slurm.nodes, partition.max_nodes, "nodes a job"),
        ("slurm.cpus_per_task x ranks_per_node", cpus, partition.max_cpus_per_node, "CPUs a node"),
        ("slurm.memory_gb x 1024", memory, partition.max_memory_mb, "MiB a node"),
    )
    found += [
        f"{option} {value} is more than the {most} {what} that partition {partition.name} allows"
        f": ask for less"
        for option, value, most, what in limits
        if value is not None and most is not None and value > most
    ]
    for kind in ("account", "qos"):
        given, only = getattr(slurm, kind), partition.only[kind]
        refused = (only and given not in only) if given else False
        if refused or (given and given in partition.never[kind]):
            those = f"; it allows {', '.join(only)}" if only else ""
            found.append(f"slurm.{kind} {given} may not use partition {partition.name}{those}")
    return found


def _time_findings(option: str, minutes: int, partition: Partition) -> list[str]:
    most = partition.max_minutes
    if most is None or minutes <= most:
        return []
    return [
        f"{option} {minutes} is more than the {most:.0f} minutes of partition {partition.name}: "
        f"the job would wait for ever; set it to {most:.0f} or less"
    ]


def node_findings(slurm: ClusterConfig, partition: Partition, nodes: list[Node]) -> list[str]:
    """Why too few nodes of the partition can take a share of the job."""
    where = f"partition {partition.name}"
    if len(nodes) < slurm.nodes:
        return [f"slurm.nodes {slurm.nodes}: {where} has {len(nodes)}; ask for fewer"]
    wanted = _wanted_of_a_node(slurm, nodes)
    found = []
    for want in wanted:
        able = sum(want.has(node) for node in nodes)
        if able < slurm.nodes:
            found.append(
                f"{want.what} on each of {slurm.nodes} nodes: {able} of {len(nodes)} nodes of "
                f"{where} have so much, the largest has {want.most}; ask for less"
            )
    up = [node for node in nodes if node.in_service and all(want.has(node) for want in wanted)]
    if not found and len(up) < slurm.nodes:
        found.append(
            f"{len(up)} nodes of {where} are in service and fit, and slurm.nodes is {slurm.nodes}: "
            "the job would wait until others return; `sinfo -R` says why they are out"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class _Want:
    """What the job wants of a node: in words, whether a node has it, the most that one has."""

    what: str
    has: Callable[[Node], bool]
    most: str


def _wanted_of_a_node(slurm: ClusterConfig, nodes: list[Node]) -> list[_Want]:
    cpus = slurm.ranks_per_node * slurm.cpus_per_task
    memory = (slurm.memory_gb or 0) * 1024
    cpus_are = f"ranks_per_node {slurm.ranks_per_node} x cpus_per_task {slurm.cpus_per_task}"
    wanted = [
        _Want(
            what=f"{cpus} CPUs ({cpus_are})",
            has=lambda node: node.cpus >= cpus,
            most=f"{max((node.cpus for node in nodes), default=0)} CPUs",
        ),
        _Want(
            what=f"{slurm.gpus_per_node} GPUs",
            has=lambda node: node.gpus >= slurm.gpus_per_node,
            most=f"{max((node.gpus for node in nodes), default=0)} GPUs",
        ),
        _Want(
            what=f"{slurm.memory_gb} GiB of memory",
            has=lambda node: node.memory_mb >= memory,
            most=f"{max((node.memory_mb for node in nodes), default=0) // 1024} GiB",
        ),
    ]
    feature = slurm.constraint
    if feature is not None and feature.replace("_", "").isalnum():  # one name, no expression
        some = sorted({name for node in nodes for name in node.features})
        wanted.append(
            _Want(
                what=f"the feature {feature} (slurm.constraint)",
                has=lambda node: feature in node.features,
                most=f"features {', '.join(some) or 'none'}",
            )
        )
    return wanted
