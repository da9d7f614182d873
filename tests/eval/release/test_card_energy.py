"""The card's energy is what the run's counters counted, and says where they did not."""

import json
import shutil

import pytest

from eval.release.card_facts import gather_facts
from eval.release.model_card import render_card
from pretrain.checkpoint import open_checkpoint
from pretrain.metrics import ENERGY_FILE
from pretrain.models import Backbone

KWH = 3.6e6
NO_GPU = "rank 3: nvmlDeviceGetTotalEnergyConsumption: Not Supported"

STOOD_STILL = "rank 0: package-1's counter has not grown for 10 s or more"


@pytest.fixture
def own(checkpoint, tmp_path):
    """The checkpoint, of step 20, in a run folder of the test's own."""
    shutil.copytree(checkpoint.run, tmp_path / "run")
    return open_checkpoint(tmp_path / "run" / "checkpoints" / checkpoint.folder.name)


@pytest.fixture
def card_of(own):
    def card(*records, tail=""):
        text = "".join(json.dumps(record) + "\n" for record in records) + tail
        (own.run / ENERGY_FILE).write_text(text)
        facts = gather_facts(own, Backbone.load(own.backbone), (), ())
        return render_card(facts, (), "small", "cc-by-4.0")

    return card


def start(step, **unread):
    return {"step": step, "unread": unread}


def window(step, steps, gpu=None, cpu=None, unread=()):
    """Kilowatt-hours of the steps up to ``step``."""
    used = {"gpu_joules": gpu and gpu * KWH, "cpu_joules": cpu and cpu * KWH}
    counted = {name: joules for name, joules in used.items() if joules is not None}
    return {"step": step, "steps": steps, "seconds": 60.0, **counted, "unread": dict(unread)}


def test_a_measured_run_tells_its_energy_and_what_that_leaves_out(card_of):
    card = card_of(start(0), window(10, 10, gpu=1.5, cpu=0.25), window(20, 10, gpu=2.0, cpu=0.25))
    assert "1.5" not in card
    assert "3.5 kWh of GPUs, over all steps; 0.5 kWh of CPU packages, over all steps.\n" in card
    assert "the CPU packages' is of all that ran on these hosts" in card
    assert "Main memory, storage, network, cooling" in card
    assert "not counted" not in card
    assert "not measured" not in card
    assert "co2" not in card.lower()


def test_what_was_used_after_the_checkpoint_is_not_its_own(card_of):
    card = card_of(
        start(0), window(20, 20, gpu=100.0), start(20, gpu=NO_GPU), window(30, 10, gpu=7.0)
    )
    assert "100 kWh of GPUs, over all steps." in card
    assert NO_GPU not in card
    assert "hosts" not in card.split("Energy by")[1].split("Whether")[0]


def test_a_run_that_was_resumed_where_nothing_can_be_read_says_for_which_share_it_was(card_of):
    card = card_of(
        start(0),
        window(5, 5, gpu=0.012, cpu=0.001),
        window(10, 5, gpu=0.012, unread={"cpu": STOOD_STILL}),
        start(10, gpu=NO_GPU),
        window(20, 10, cpu=0.002),
        tail='{"step": 2',
    )
    assert "0.024 kWh of GPUs, over 50 % of the steps; 0.003 kWh of CPU packages, over 75 %" in card
    assert f"Where the GPUs were not counted: {NO_GPU}.\n" in card
    assert f"Where the CPU packages were not counted: {STOOD_STILL}.\n" in card


def test_a_share_that_is_not_whole_is_never_rounded_up_to_all(card_of):
    assert "over 95 % of the steps." in card_of(start(0), window(19, 19, gpu=1.0))


def test_a_machine_without_counters_is_told_with_the_reason_and_without_a_path(card_of):
    reason = "rank 0: no intel-rapl package in /sys/class/powercap"
    card = card_of(start(0, cpu=reason), start(10, cpu=reason))
    told = "no counter could be read; CPU packages: rank 0: no intel-rapl package in powercap.\n"
    assert f"Energy was not measured: {told}" in card


def test_a_run_too_short_is_told_from_one_without_a_record(card_of, own):
    assert "Energy was not measured: the run was too short for its counters." in card_of(start(0))
    (own.run / ENERGY_FILE).unlink()
    facts = gather_facts(own, Backbone.load(own.backbone), (), ())
    card = render_card(facts, (), "small", "cc-by-4.0")
    assert "Energy was not measured: the run has no record of it." in card


@pytest.mark.parametrize("joules", [0.0, -3.0, float("nan"), "many", True])
def test_what_is_no_amount_of_energy_is_not_counted(card_of, joules):
    record = {"step": 20, "steps": 20, "gpu_joules": joules, "unread": {"gpu": NO_GPU}}
    assert f"no counter could be read; GPUs: {NO_GPU}." in card_of(start(0), record)


def test_hours_of_a_long_run_are_written_out(card_of, own):
    line = {"step": 20, "speed/samples_per_second": 320 / 3600 / 1234}
    (own.run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert "\n1,234 hours of steps by the rates that the run logged.\n" in card_of(start(0))
