"""The card tells of the run what was recorded, and of what was not that it was not."""

import json
import shutil

import pytest

from data_sharding.manifest import ShardSet
from eval.probes.contamination import DATA_FILE
from eval.release.card_facts import gather_facts
from eval.release.model_card import render_card
from pretrain.checkpoint import open_checkpoint
from pretrain.health import Finding, Verdict, save_verdict
from pretrain.models import Backbone

NOTHING_ELSE = "It has seen the data named above and nothing else"


@pytest.fixture
def own(checkpoint, tmp_path):
    """The checkpoint in a run folder of the test's own."""
    shutil.copytree(checkpoint.run, tmp_path / "run")
    return open_checkpoint(tmp_path / "run" / "checkpoints" / checkpoint.folder.name)


def card_of(checkpoint):
    facts = gather_facts(checkpoint, Backbone.load(checkpoint.backbone), (), ())
    return render_card(facts, (), "small", "cc-by-4.0")


def record(checkpoint, *digests, phases=None):
    begun = [[0, [1.0] * len(digests)]]
    content = {"sets": [{"digest": digest} for digest in digests], "phases": phases or begun}
    (checkpoint.run / DATA_FILE).write_text(json.dumps(content))


def test_data_that_the_run_recorded_are_all_that_it_has_seen(own, sample_shards):
    shards = ShardSet.open(sample_shards, "train")
    record(own, shards.digest)
    card = card_of(own)
    assert f"\n{shards.num_samples:,} samples:\n" in card
    assert f"| shards | {shards.num_samples:,} |" in card
    assert NOTHING_ELSE in card


def test_a_set_that_was_blended_in_after_the_checkpoint_is_not_named(own, sample_shards):
    train = ShardSet.open(sample_shards, "train")
    last = own.samples_consumed - own.config["batch"]["global_samples"]
    row = f"| shards | {train.num_samples:,} |"
    record(own, train.digest, phases=[[0, [0.0]], [last, [1.0]]])
    assert row in card_of(own)
    record(own, train.digest, phases=[[0, [0.0]], [last + 1, [1.0]]])  # with the next whole batch
    assert row not in card_of(own)


def test_data_that_were_altered_since_are_not_named(own):
    record(own, "0" * 64)
    card = card_of(own)
    assert "**Unknown: the pretraining shards were altered since the run read them.**" in card
    assert "What it has seen is not known" in card
    assert "| set | samples |" not in card


def test_without_a_record_of_its_own_a_run_is_not_said_to_have_seen_nothing_else(own):
    card = card_of(own)
    assert "by the shards as they are now, for the run recorded none" in card
    assert NOTHING_ELSE not in card


@pytest.mark.parametrize(
    ("severity", "words"),
    [
        (None, "No rule on the run's health held when this checkpoint was written."),
        ("warn", "health when this checkpoint was written: audio is one point."),
        ("stop", "**The run had collapsed when this checkpoint was written**"),
    ],
)
def test_the_runs_verdict_is_told(own, severity, words):
    grave = [severity] if severity else []
    found = (Finding(rule="a", severity=it, sentence="audio is one point.") for it in grave)
    save_verdict(Verdict(step=20, findings=tuple(found)), own.folder)
    card = card_of(own)
    assert words in card
    assert ("audio is one point." in card) is (severity is not None)


def test_a_checkpoint_without_a_verdict_is_told_from_a_healthy_one(own):
    assert "Whether the run was healthy was **not recorded**." in card_of(own)
