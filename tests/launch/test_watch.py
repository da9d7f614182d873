import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from launch.cluster import SubmissionError
from launch.commands import COMMANDS
from launch.preemption import EXIT_COLLAPSED
from launch.probes.inline import InlineProbes
from launch.probes.jobs import Round
from launch.probes.states import probe_states, whole_checkpoints
from launch.run_config import prepare_run
from launch.starts import Start, write_starts
from launch.watch_command import Stop, watch
from pretrain.checkpoint import remove_old
from tiny import tiny_run
from tiny_tasks import write_few_topics
from warm_ranks import run_warm


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return str(write_few_topics(tmp_path_factory.mktemp("few"), ["text"]).folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sample_shards, task):
    """A run of two checkpoints that was never probed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    config = tiny_run(run, sample_shards, total_steps=4, checkpoint_every_steps=2)
    prepare_run(replace(config, probe_tasks=(task,)), resume=False)
    assert run_warm(run, 1) == 0
    return run


@pytest.fixture
def run(tmp_path, trained):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_a_finished_run_is_probed_here_its_pages_drawn_and_its_best_checkpoint_named(run, capfd):
    assert COMMANDS["watch"]([str(run), "--cluster", "inline"]) == 0
    said = capfd.readouterr().out.splitlines()
    steps = [line.partition(" on few-topics: text ")[0] for line in said if " over random)" in line]
    assert steps == ["step-00000002", "step-00000004"]
    best = json.loads((run / "best.json").read_text())["best"]
    assert said[-1].startswith(f"best checkpoint: {best['name']}, validation score ")
    events = EventAccumulator(str(run / "tensorboard" / "probes")).Reload()
    points = events.Scalars("probe/few-topics/text/macro_f1")
    assert [event.step for event in points] == [2, 4]
    assert said[-1][0].upper() + said[-1][1:] in (run / "report.html").read_text()
    # Nothing is left to do, and that is found out at once.
    assert COMMANDS["watch"]([str(run), "--cluster", "inline"]) == 0


def test_a_probe_that_fails_is_tried_again_and_given_up(run, capfd):
    broken = run.parent / "broken"
    broken.mkdir()
    (broken / "task.json").write_text('{"name": "broken"}')
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    look = InlineProbes(run, (str(broken),), attempts=2, stop=threading.Event())
    assert watch(run, (str(broken),), 2, look, Stop(), every_seconds=60.0) == 1
    said = capfd.readouterr().out
    log = run / "logs" / "inline-step-00000002-broken_0_log.err"
    assert "step-00000002 on broken: job inline-step-00000002-broken ended without a report" in said
    assert f"(attempt 2); its log: {log}" in said
    assert "step-00000002 on broken: given up after 2 attempts" in said
    assert "task card format" in log.read_text()
    assert list((run / "checkpoints").glob("*.lease-*broken*")) == []


def test_a_checkpoint_waits_for_its_turn_to_be_probed(run, task):
    stop = threading.Event()
    stop.set()
    InlineProbes(run, (task,), attempts=1, stop=stop)()
    for step in (6, 8):
        shutil.copytree(
            run / "checkpoints" / "step-00000004", run / "checkpoints" / f"step-{step:08d}"
        )
    remove_old(run, keep=2, lease_hours=1.0)
    names = [one.folder.name for one in whole_checkpoints(run)]
    assert names == [f"step-{step:08d}" for step in (2, 4, 6, 8)]


def test_a_controller_that_does_not_answer_is_asked_again(run, task, capfd):
    report = run / "probes" / "step-00000002" / "few-topics.json"
    answers = iter(["silence", "one", "done"])

    def look():
        if next(answers) == "silence":
            raise SubmissionError("squeue gave no answer in 120 s")
        states = probe_states(whole_checkpoints(run), (task,), [])
        return Round(states=[replace(probe, state="reported") for probe in states])

    assert watch(run, (task,), 4, look, Stop(), every_seconds=0.01) == 0
    said = capfd.readouterr().out
    assert "nothing could be submitted, and is tried again: squeue gave no answer" in said
    assert not report.exists()


def test_a_watch_ends_when_it_is_told_to(run, capfd):
    config = json.loads((run / "config.json").read_text())
    config["pretrain"]["total_steps"] = 100  # the run goes on
    (run / "config.json").write_text(json.dumps(config))
    for folder in (run / "checkpoints").glob("step-*"):
        shutil.rmtree(folder)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = signal.getsignal(number)
        teller = threading.Thread(target=send_once_heard, args=(number, before), daemon=True)
        teller.start()
        assert COMMANDS["watch"]([str(run), "--cluster", "inline"]) == code
        teller.join()
        assert signal.getsignal(number) == before
        assert capfd.readouterr().out.endswith("what is queued stays queued\n")


def send_once_heard(number, before):
    """A signal to this process, as soon as it is not handled as before."""
    while signal.getsignal(number) == before:
        time.sleep(0.02)
    os.kill(os.getpid(), number)


def test_a_watch_ends_with_a_run_that_has_collapsed(run, task):
    write_starts(run, [Start(furthest=0, from_step=0, ranks=1, drift={}, code=EXIT_COLLAPSED)])
    assert watch(run, (task,), 1000, lambda: Round(states=[]), Stop(), 60.0) == 0


def test_a_run_without_tasks_is_refused(run):
    config = json.loads((run / "config.json").read_text()) | {"probe_tasks": []}
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="say what to probe with --tasks"):
        COMMANDS["watch"]([str(run)])
    with pytest.raises(ValueError, match="neither a task folder nor a built-in task"):
        COMMANDS["watch"]([str(run), "--tasks", "no-such-task"])
    with pytest.raises(ValueError, match="no run configuration"):
        COMMANDS["watch"]([str(run.parent / "nowhere")])
