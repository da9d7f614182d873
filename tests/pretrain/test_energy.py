"""What a run used is what counters counted; where one was not read there is no number."""

import itertools
import json
import time

import pytest

from pretrain.build import Training
from pretrain.checkpoint import newest_complete
from pretrain.metrics import ENERGY_FILE
from pretrain.metrics.energy import CounterError, EnergyMeter, MeteredRun
from pretrain.metrics.energy.rapl import CpuPackages
from pretrain.trainer import train
from tiny import tiny_pretrain


class Clock:
    """Seconds that pass where the test says so."""

    now = 0.0

    def __call__(self):
        return self.now


class Known:
    """A counter that shows what the test says; None is one that cannot be read."""

    def __init__(self, **joules):
        self.by_part = joules
        self.open = True

    def joules(self):
        if None in self.by_part.values():
            raise CounterError("it broke")
        return dict(self.by_part)

    def close(self):
        self.open = False


class Hundred:
    """A counter of a machine that uses 100 W."""

    open = True

    def joules(self):
        return {"package-0": 100.0 * time.monotonic()}

    def close(self):
        self.open = False


class Alone:
    """One rank, with all that a meter kept of it."""

    def __init__(self, **counters):
        self.kept, self.exchanges, self.clock = [], 0, Clock()
        run = MeteredRun(
            rank=0,
            gather=lambda value: [value],
            sum_over_ranks=self.sum,
            record=lambda step, record: self.kept.append({"step": step, **record}),
        )
        openers = {kind: lambda counter=counter: counter for kind, counter in counters.items()}
        self.meter = EnergyMeter(openers, run, 0, self.clock)

    def sum(self, value):
        self.exchanges += 1
        return value

    def at(self, seconds, step):
        self.clock.now = seconds
        return self.meter.values(step)


def test_watts_are_joules_over_the_seconds_since_they_were_last_told():
    gpu, cpu = Known(GPU=1e9), Known(a=0.0, b=5.0)
    alone = Alone(gpu=gpu, cpu=cpu)
    gpu.by_part = {"GPU": 1e9 + 6000.0}
    cpu.by_part = {"a": 500.0, "b": 1505.0}
    assert alone.at(20.0, 10) == {"power/gpu_watts": 300.0, "power/cpu_watts": 100.0}
    gpu.by_part, cpu.by_part = {"GPU": 1e9 + 7000.0}, {"a": 1000.0, "b": 1605.0}
    assert alone.at(30.0, 15) == {"power/gpu_watts": 100.0, "power/cpu_watts": 60.0}
    used = {"gpu_joules": 1000.0, "cpu_joules": 600.0}
    assert alone.kept == [
        {"step": 0, "unread": {}},
        {"step": 10, "steps": 10, "seconds": 20.0, "gpu_joules": 6000.0, "cpu_joules": 2000.0,
         "unread": {}},
        {"step": 15, "steps": 5, "seconds": 10.0, **used, "unread": {}},
    ]  # fmt: skip


def test_logged_steps_close_together_make_one_window_that_loses_nothing():
    gpu = Known(GPU=0.0)
    alone = Alone(gpu=gpu)
    for step in range(1, 10):
        assert alone.at(float(step), step) == {}
    gpu.by_part = {"GPU": 700.0}
    assert alone.at(10.0, 10) == {"power/gpu_watts": 70.0}
    assert alone.kept[-1]["steps"] == 10


@pytest.mark.parametrize("now", [{"a": 9.0, "b": 1.0}, {"a": 9.0, "b": 0.5}])
def test_a_counter_that_stands_still_or_runs_back_is_no_measurement(caplog, now):
    cpu, gpu = Known(a=0.0, b=1.0), Known(GPU=0.0)
    alone = Alone(gpu=gpu, cpu=cpu)
    cpu.by_part, gpu.by_part = now, {"GPU": 100.0}
    assert alone.at(10.0, 1) == {"power/gpu_watts": 10.0}
    assert alone.kept[-1]["unread"] == {"cpu": "rank 0: b's counter has not grown for 10 s or more"}
    assert "cpu_joules" not in alone.kept[-1]
    alone.at(20.0, 2)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "the energy of CPU packages is not measured, and power/cpu_watts not logged",
        "the energy of GPUs is not measured, and power/gpu_watts not logged",
    ]


def test_a_counter_that_failed_for_a_while_counts_again_from_then_on(caplog):
    gpu = Known(GPU=0.0)
    alone = Alone(gpu=gpu)
    for step, joules in enumerate((None, 900.0, 1000.0), start=1):
        gpu.by_part = {"GPU": joules}
        watts = alone.at(10.0 * step, step)
    assert watts == {"power/gpu_watts": 10.0}
    assert [record["unread"].get("gpu") for record in alone.kept] == [
        None, "rank 0: it broke", "rank 0: it broke", None,
    ]  # fmt: skip
    assert len(caplog.records) == 1


def test_where_nothing_can_be_read_nothing_is_exchanged(caplog, tmp_path):
    alone = Alone()
    run = MeteredRun(
        rank=0,
        gather=lambda value: [value],
        sum_over_ranks=alone.sum,
        record=lambda step, record: alone.kept.append(record),
    )
    meter = EnergyMeter({"cpu": lambda: CpuPackages(tmp_path)}, run, 7)
    assert meter.values(10) == {}
    assert alone.exchanges == 0
    reason = f"rank 0: no intel-rapl package in {tmp_path}"
    assert alone.kept[-1] == {"unread": {"cpu": reason}}
    assert [record.getMessage() for record in caplog.records] == [
        f"the energy of CPU packages is not measured, and power/cpu_watts not logged: {reason}"
    ]


@pytest.mark.usefixtures("one_rank")
def test_a_run_logs_its_power_and_keeps_a_record_up_to_where_it_is_resumed(
    tmp_path, sample_shards, monkeypatch
):
    monkeypatch.setattr("pretrain.metrics.energy.meter.WINDOW_SECONDS", 0.0)
    counter = Hundred()
    monkeypatch.setattr("pretrain.build.counters_of", lambda device: {"cpu": lambda: counter})
    config = tiny_pretrain(
        sample_shards, total_steps=6, checkpoint_every_steps=6, log_every_steps=2
    )
    steps = itertools.count(1)
    first = Training(config, tmp_path, None)
    train(first.run(), first.progress, should_stop=lambda: next(steps) == 3)
    first.close()
    assert not counter.open
    with (tmp_path / ENERGY_FILE).open("a") as file:
        file.write('{"step": 4, "steps": 2, "cpu_joules": 5.0, "unread": {}}\n')  # and was killed
    second = Training(config, tmp_path, newest_complete(tmp_path))
    train(second.run(), second.progress)
    second.close()
    watts = [line["power/cpu_watts"] for line in lines(tmp_path / "metrics.jsonl")]
    assert watts == pytest.approx([100.0] * 3, rel=0.5)
    kept = [(line["step"], line.get("steps")) for line in lines(tmp_path / ENERGY_FILE)]
    assert kept == [(0, None), (2, 2), (3, None), (4, 1), (6, 2)]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
