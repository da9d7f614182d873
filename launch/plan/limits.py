"""What a partition and its nodes allow, as scontrol and sinfo tell it."""

import re
from dataclasses import dataclass

from launch.slurm_queue import ask_slurm

NODE_FORMAT = "%N|%c|%m|%G|%T|%f"
OUT_OF_SERVICE = ("down", "drain", "fail", "maint", "power", "unk", "inval", "future")
UNLIMITED = ("UNLIMITED", "INFINITE", "NONE", "N/A", "(null)", "")


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one node has.

    Attributes:
        name: Its name.
        cpus: As Slurm counts them, threads perhaps.
        memory_mb: That jobs may have, in MiB.
        gpus: Generic resources named gpu.
        in_service: Whether it takes jobs, now or when it is free.
        features: For constraints.
    """

    name: str
    cpus: int
    memory_mb: int
    gpus: int
    in_service: bool
    features: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A queue and its limits; None where there is no limit.

    Attributes:
        name: Its name.
        state: ``UP``, or what keeps it from starting jobs.
        max_minutes: Longest time limit.
        max_nodes: Most nodes of a job.
        max_cpus_per_node: Most that a job may have.
        max_memory_mb: Most of a node, in MiB.
        only: For accounts and qualities of service: who alone may; empty is anybody.
        never: Who may not.
    """

    name: str
    state: str
    max_minutes: float | None
    max_nodes: int | None
    max_cpus_per_node: int | None
    max_memory_mb: int | None
    only: dict[str, tuple[str, ...]]
    never: dict[str, tuple[str, ...]]


def ask_partition(name: str | None) -> tuple[Partition, list[Node]]:
    """A partition, or the default one, and its nodes.

    Raises:
        ValueError: there is no Slurm on this machine, or no such partition; names those there are.
        SubmissionError: Slurm does not answer.
    """
    partitions = parse_partitions(ask_slurm("scontrol", "--oneliner", "show", "partition"))
    found = [p for fields, p in partitions if name in (None, p.name)]
    if name is None:
        found = [p for fields, p in partitions if fields.get("Default") == "YES"]
    if not found:
        names = ", ".join(p.name for _, p in partitions) or "none"
        asked = f"no partition is named {name!r}" if name else "no partition is the default"
        raise ValueError(f"slurm.partition: {asked}; there are: {names}")
    (partition,) = found
    answer = ask_slurm(
        "sinfo", "--noheader", "--Node", f"--partition={partition.name}", f"--format={NODE_FORMAT}"
    )
    return partition, parse_nodes(answer)


def parse_partitions(text: str) -> list[tuple[dict[str, str], Partition]]:
    """Each line of ``scontrol --oneliner show partition``: its fields, and what is made of them."""
    lines = [line for line in text.splitlines() if "PartitionName=" in line]
    fields = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return [(entry, _partition(entry)) for entry in fields]


def _partition(fields: dict[str, str]) -> Partition:
    kinds = {"account": "Accounts", "qos": "Qos"}
    return Partition(
        name=fields["PartitionName"],
        state=fields.get("State", "UP"),
        max_minutes=parse_minutes(fields.get("MaxTime", "")),
        max_nodes=_number(fields.get("MaxNodes", "")),
        max_cpus_per_node=_number(fields.get("MaxCPUsPerNode", "")),
        max_memory_mb=_number(fields.get("MaxMemPerNode", "")),
        only={kind: _names(fields.get(f"Allow{word}", "ALL")) for kind, word in kinds.items()},
        never={kind: _names(fields.get(f"Deny{word}", "")) for kind, word in kinds.items()},
    )


def parse_nodes(text: str) -> list[Node]:
    """What ``sinfo --Node`` prints in `NODE_FORMAT`, a line for each node."""
    nodes = {}
    for line in text.splitlines():
        name, cpus, memory, gres, state, features = (part.strip() for part in line.split("|"))
        nodes[name] = Node(
            name=name,
            cpus=int(cpus),
            memory_mb=int(memory.rstrip("+")),
            gpus=count_gpus(gres),
            in_service=not state.lower().startswith(OUT_OF_SERVICE) and not state.endswith("*"),
            features=frozenset(features.split(",")) - {"(null)", ""},
        )
    return list(nodes.values())


def count_gpus(gres: str) -> int:
    """GPUs in a list such as ``gpu:h100:8(S:0-1),nvme:1``."""
    counts = re.findall(r"(?:^|,)gpu(?::[^,:()]+)??(?::(\d+))?(?=[(,]|$)", gres)
    return sum(int(count or 1) for count in counts)


def parse_minutes(text: str) -> float | None:
    """A time limit as Slurm writes it: ``1-12:00:00``, ``02:00:00``, ``30:00``, ``90``; or none."""
    if text in UNLIMITED:
        return None
    days, dash, rest = text.rpartition("-")
    parts = [float(part) for part in rest.split(":")]
    if dash:
        parts = [*parts, 0.0, 0.0][:3]
    hours, minutes, seconds = parts if len(parts) == 3 else [0.0, *parts, 0.0][:3]
    return float(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def _number(text: str) -> int | None:
    return None if text in UNLIMITED else int(text)


def _names(text: str) -> tuple[str, ...]:
    return () if text in ("ALL", *UNLIMITED) else tuple(text.split(","))
