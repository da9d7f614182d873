"""Batches whose loss is no number: passed over, so that nothing remembers them but the order."""

import re
from dataclasses import replace

import pytest
import torch

from pretrain.build import Training
from pretrain.checkpoint import Progress, open_checkpoint, resume_point
from pretrain.checkpoint.group import GroupRanks
from pretrain.pace import Pace, slowness
from pretrain.step import NonFiniteLossError
from pretrain.trainer import train
from tiny import tiny_pretrain

pytestmark = pytest.mark.usefixtures("one_rank")

GLOBAL = 16


@pytest.fixture
def config(sample_shards):
    return tiny_pretrain(sample_shards, total_steps=5, checkpoint_every_steps=100)


def poisoned(run, numbers):
    """The run, in whose batches of these numbers the sound is no number."""

    def batches(consumed):
        for number, batch in enumerate(run.batches(consumed), start=consumed // GLOBAL):
            silent = torch.full_like(batch.waveform, torch.nan)
            yield replace(batch, waveform=silent) if number in numbers else batch

    return replace(run, batches=batches)


def without(run, numbers):
    """The run, whose batches of these numbers do not come."""

    def batches(consumed):
        for number, batch in enumerate(run.batches(consumed)):
            if number not in numbers:
                yield batch

    return replace(run, batches=batches)


def state(training):
    online = [value.clone() for _, value in training._engine.master_parameters()]
    target = list(training.target.full_masters().values())
    buffers = [*training.online.buffers(), *training.target.network.buffers()]
    return [value.clone() for value in (*online, *target, *buffers)]


def same(one, other):
    return all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


@pytest.fixture
def trained(config, tmp_path):
    """Trains in a folder and gives the state of everything at the end, and the progress."""

    def go(name, change, should_stop=lambda: False):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        training = Training(config, folder, resume_point(folder, GroupRanks()))
        try:
            progress = train(change(training.run()), training.progress, should_stop=should_stop)
        finally:
            training.close()
        return state(training), progress

    return go


def test_a_run_goes_on_as_if_the_batch_had_never_come_and_resumes_exactly(
    trained, caplog, tmp_path
):
    met, progress = trained("met", lambda run: poisoned(run, {1, 2, 4}))
    assert progress == Progress(step=5, samples_consumed=8 * GLOBAL)
    assert caplog.text.count("passed over: rank 0: audio features not finite in samples ") == 3
    assert "step 2: batch passed over" in caplog.text
    spared, _ = trained("spared", lambda run: without(run, {1, 2, 4}))
    assert same(met, spared)
    assert all(value.isfinite().all() for value in met if value.is_floating_point())

    # Asked to stop right after the bad batches, once before and once after the step is saved.
    asked = iter([False, False, True])
    trained("stopped", lambda run: poisoned(run, {1, 2, 4}), lambda: next(asked))
    assert open_checkpoint(tmp_path / "stopped").progress == Progress(1, 3 * GLOBAL)
    asked = iter([False, True])
    trained("stopped", lambda run: poisoned(run, {1, 2, 4}), lambda: next(asked))
    assert open_checkpoint(tmp_path / "stopped").progress == Progress(2, 5 * GLOBAL)
    resumed, _ = trained("stopped", lambda run: poisoned(run, {1, 2, 4}))
    assert same(met, resumed)


def test_too_many_in_a_row_stop_the_run_and_name_the_samples(trained, caplog):
    with pytest.raises(NonFiniteLossError, match="3 batches in a row"):
        trained("run", lambda run: poisoned(run, {2, 3, 4}))
    found = re.findall(
        r"step 3: batch passed over: rank 0: audio features not finite in samples \S+, \S+",
        caplog.text,
    )
    assert len(set(found)) == 3


def test_a_rank_is_as_slow_as_its_time_over_that_of_the_others():
    assert slowness([3.0]) == [1.0]
    assert slowness([1.0, 5.0]) == [0.2, 5.0]
    assert slowness([1.0, 1.0, 1.0, 6.0])[3] == 6.0


def test_a_straggler_is_named_once_and_again_after_it_had_caught_up():
    said = []
    pace = Pace(3, said.append)
    slow, even = (1.0, 9.0, 1.0), (1.0, 1.0, 1.0)
    pattern = [slow] + [even] * 9 + [slow] * 30 + [even] * 10 + [slow] * 10
    for step, busy_seconds in enumerate(pattern, start=1):
        pace.add(busy_seconds, step)
    assert [sentence.split(":")[0] for sentence in said] == ["step 20", "step 60"]
    assert all("rank 1 is 9.0 times slower" in sentence for sentence in said)
    assert pace.slowest == 9.0
