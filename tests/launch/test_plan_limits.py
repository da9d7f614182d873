"""What Slurm's programs print is read, and what a partition cannot give is found."""

from dataclasses import replace

import pytest

from launch.cluster import ClusterConfig
from launch.plan import limits
from launch.plan.limits import (
    Partition,
    ask_partition,
    count_gpus,
    parse_minutes,
    parse_nodes,
    parse_partitions,
)
from launch.plan.slurm import asked, node_findings, partition_findings

PARTITIONS = (
    "PartitionName=gpu AllowGroups=ALL AllowAccounts=vision,speech AllowQos=normal,high "
    "AllocNodes=ALL Default=NO QoS=N/A DefaultTime=01:00:00 DisableRootJobs=NO ExclusiveUser=NO "
    "GraceTime=0 Hidden=NO MaxNodes=16 MaxTime=1-00:00:00 MinNodes=0 LLN=NO "
    "MaxCPUsPerNode=128 Nodes=g[01-04] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO "
    "OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=512 TotalNodes=4 "
    "SelectTypeParameters=NONE JobDefaults=(null) DefMemPerCPU=4000 MaxMemPerNode=1024000 "
    "TRES=cpu=512,mem=4T,node=4,billing=512,gres/gpu=32\n"
    "PartitionName=cpu AllowGroups=ALL DenyAccounts=guests AllowQos=ALL AllocNodes=ALL "
    "Default=YES QoS=N/A DefaultTime=NONE MaxNodes=UNLIMITED MaxTime=UNLIMITED "
    "MaxCPUsPerNode=UNLIMITED Nodes=c[1-2] State=DOWN TotalCPUs=8 TotalNodes=2 "
    "MaxMemPerNode=UNLIMITED\n"
)
NODES = (
    "g01|112|1031000|gpu:h100:8(S:0-1)|idle|h100,ib\n"
    "g02|112|1031000|gpu:h100:8(S:0-1)|mixed|h100,ib\n"
    "g03|112|1031000|gpu:h100:8(S:0-1)|drained|h100,ib\n"
    "g04|64|515000|gpu:a100:4|allocated|a100\n"
)
JOB = ClusterConfig(
    nodes=2, ranks_per_node=8, gpus_per_node=8, cpus_per_task=14, memory_gb=900,
    walltime_minutes=1440, partition="gpu", account="vision", qos="high", constraint="h100",
)  # fmt: skip


@pytest.fixture
def gpu() -> Partition:
    return parse_partitions(PARTITIONS)[0][1]


def test_partitions_are_read(gpu):
    assert gpu == Partition(
        name="gpu",
        state="UP",
        max_minutes=1440.0,
        max_nodes=16,
        max_cpus_per_node=128,
        max_memory_mb=1_024_000,
        only={"account": ("vision", "speech"), "qos": ("normal", "high")},
        never={"account": (), "qos": ()},
    )
    cpu = parse_partitions(PARTITIONS)[1][1]
    assert (cpu.max_minutes, cpu.max_nodes, cpu.max_memory_mb) == (None, None, None)
    assert (cpu.only["account"], cpu.never["account"]) == ((), ("guests",))


def test_nodes_are_read():
    first, _, drained, last = parse_nodes(NODES)
    assert (first.cpus, first.memory_mb, first.gpus) == (112, 1_031_000, 8)
    assert first.features == {"h100", "ib"}
    assert (first.in_service, drained.in_service, last.in_service) == (True, False, True)
    assert last.gpus == 4


@pytest.mark.parametrize(
    ("gres", "count"),
    [
        ("(null)", 0), ("gpu:8", 8), ("gpu", 1), ("gpu:h100:8(S:0-1)", 8), ("nvme:1,gpu:a:4", 4),
        ("gpu:a100:2,gpu:t4:2(S:1),nvme:1", 4), ("gpu:tesla_v100-sxm2-16gb:4(IDX:0-3)", 4),
        ("gpumem:80", 0),
    ],
)  # fmt: skip
def test_gpus_are_counted(gres, count):
    assert count_gpus(gres) == count


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("UNLIMITED", None), ("1-00:00:00", 1440), ("2-12:30:00", 3630), ("02:00:00", 120),
        ("30:00", 30), ("90", 90), ("00:00:30", 0.5), ("3-00", 4320),
    ],
)  # fmt: skip
def test_time_limits_are_read(text, minutes):
    assert parse_minutes(text) == minutes


def test_the_default_partition_is_found_and_an_unknown_one_is_refused(monkeypatch):
    def answer(*command: str) -> str:
        return PARTITIONS if command[0] == "scontrol" else NODES

    monkeypatch.setattr(limits, "ask_slurm", answer)
    assert ask_partition(None)[0].name == "cpu"
    assert len(ask_partition("gpu")[1]) == 4
    with pytest.raises(ValueError, match="no partition is named 'gpus'; there are: gpu, cpu"):
        ask_partition("gpus")


def test_a_job_that_fits_has_no_finding(gpu):
    assert partition_findings(JOB, gpu) == []
    assert node_findings(JOB, gpu, parse_nodes(NODES)) == []
    assert asked(JOB) == (
        "2 nodes x 8 ranks, 8 GPUs a node, 14 cores a rank, 900 GiB a node, 24.0 h, partition gpu, "
        "account vision, qos high, constraint h100"
    )


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"walltime_minutes": 1441}, "slurm.walltime_minutes 1441 is more than the 1440 minutes"),
        ({"nodes": 17}, "slurm.nodes 17 is more than the 16 nodes a job"),
        ({"cpus_per_task": 17}, "slurm.cpus_per_task x ranks_per_node 136 is more than the 128"),
        ({"memory_gb": 1001}, "slurm.memory_gb x 1024 1025024 is more than the 1024000 MiB"),
        ({"account": "text"}, "slurm.account text may not use partition gpu; it allows vision,"),
        ({"qos": "low"}, "slurm.qos low may not use partition gpu; it allows normal, high"),
    ],
)
def test_what_a_partition_never_grants_is_found(gpu, changes, finding):
    (found,) = partition_findings(replace(JOB, **changes), gpu)
    assert finding in found


def test_a_partition_that_is_closed_and_an_account_it_denies_are_found():
    cpu = parse_partitions(PARTITIONS)[1][1]
    closed, denied = partition_findings(replace(JOB, account="guests"), cpu)
    assert "partition cpu is DOWN: no job starts there" in closed
    assert "slurm.account guests may not use partition cpu" in denied


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"nodes": 5}, "slurm.nodes 5: partition gpu has 4; ask for fewer"),
        ({"cpus_per_task": 15}, "120 CPUs (ranks_per_node 8 x cpus_per_task 15) on each of 2"),
        ({"gpus_per_node": 16}, "16 GPUs on each of 2 nodes: 0 of 4 nodes of partition gpu have"),
        ({"memory_gb": 1010}, "1010 GiB of memory on each of 2 nodes"),
        ({"constraint": "b200"}, "the feature b200 (slurm.constraint)"),
        ({"nodes": 3}, "2 nodes of partition gpu are in service and fit, and slurm.nodes is 3"),
    ],
)
def test_what_the_nodes_do_not_have_is_found(gpu, changes, finding):
    (found,) = node_findings(replace(JOB, **changes), gpu, parse_nodes(NODES))
    assert finding in found


def test_a_constraint_with_operators_is_left_to_slurm(gpu):
    several = replace(JOB, constraint="h100&ib")
    assert node_findings(several, gpu, parse_nodes(NODES)) == []
