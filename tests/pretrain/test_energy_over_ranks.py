"""What all ranks used, over two real gloo ranks, of which one may not read its counters."""

import json
import os

import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from pretrain.checkpoint.group import GroupRanks
from pretrain.metrics.energy import CounterError, EnergyMeter, MeteredRun

RANKS = 2
CASES = {
    "all": {},
    "one has none": {1: "no counter"},
    "one breaks later": {1: "breaks"},
    "none has one": {0: "no counter", 1: "no counter"},
}


class Growing:
    """Uses 100 W and, on the second rank, 300; ``breaks`` after its first reading."""

    def __init__(self, rank, fault, clock):
        if fault == "no counter":
            raise CounterError(f"none on {rank}")
        self.watts, self.fault, self.clock, self.open = 100.0 + 200.0 * rank, fault, clock, True
        self.readings = 0

    def joules(self):
        self.readings += 1
        if self.fault == "breaks" and self.readings > 1:
            raise CounterError("it broke")
        return {"GPU": self.watts * self.clock()}

    def close(self):
        self.open = False


def summed(value):
    total = value.clone()
    dist.all_reduce(total)
    return total


def measure(rank, faults):
    """Values of two logged steps, what was kept, and which counters are open."""
    now, kept, counters = [0.0], [], {}

    def opener(kind):
        def opened():
            counters[kind] = Growing(rank, faults.get(rank) if kind == "gpu" else None, clock)
            return counters[kind]

        return opened

    def clock():
        return now[0]

    run = MeteredRun(
        rank=rank,
        gather=GroupRanks().gather,
        sum_over_ranks=summed,
        record=lambda step, record: kept.append(record["unread"]),
    )
    meter = EnergyMeter({"gpu": opener("gpu"), "cpu": opener("cpu")}, run, 0, clock)
    values = []
    for step in (1, 2):
        # The ranks' clocks do not agree: on one of them the first window is too short.
        now[0] = 10.0 * step + (-0.5 if rank == 0 else 1.0)
        values.append(meter.values(step))
    in_use = sorted(kind for kind, counter in counters.items() if counter.open)
    meter.close()
    assert not any(counter.open for counter in counters.values())
    return {"values": values, "kept": kept, "open": in_use}


def run_rank(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    rendezvous = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=RANKS)
    found = {name: measure(rank, faults) for name, faults in CASES.items()}
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def run_ranks(_, folder):
    """Forked from one process that has imported all, which takes longer than the checks."""
    mp.start_processes(run_rank, (folder,), nprocs=RANKS, start_method="fork")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """By rank and case, what both ranks saw."""
    folder = tmp_path_factory.mktemp("ranks")
    group = mp.spawn(run_ranks, (folder,), nprocs=1, join=False)
    for _ in range(120):
        if group.join(timeout=1.0):
            return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]
    for process in group.processes:
        process.kill()
    pytest.fail("two ranks did not end within two minutes")


def test_gpus_are_summed_over_ranks_and_a_host_is_counted_once(seen):
    for rank in range(RANKS):
        for values in seen[rank]["all"]["values"]:
            assert values == pytest.approx({"power/gpu_watts": 400.0, "power/cpu_watts": 100.0})
    assert seen[0]["all"]["open"] == ["cpu", "gpu"]
    assert seen[1]["all"]["open"] == ["gpu"]


def test_where_one_rank_has_no_counter_there_is_no_sum_of_the_others(seen):
    for rank in range(RANKS):
        part = seen[rank]["one has none"]
        assert part["values"] == [{"power/cpu_watts": pytest.approx(100.0)}] * 2
        assert part["kept"][0] == {"gpu": "rank 1: none on 1"}
        assert "gpu" not in part["open"]


def test_a_counter_that_breaks_on_one_rank_takes_the_sum_with_it_on_all(seen):
    for rank in range(RANKS):
        part = seen[rank]["one breaks later"]
        assert part["values"] == [{"power/cpu_watts": pytest.approx(100.0)}] * 2
        assert part["kept"] == [{}, *[{"gpu": "rank 1: it broke"}] * 2]


def test_the_first_of_several_reasons_is_told_with_their_number(seen):
    assert seen[0]["none has one"]["kept"][0] == {"gpu": "rank 0 and 1 more: none on 0"}
