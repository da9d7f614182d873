"""`triptych retrieve` on the sample corpus."""

import json
import re
import shutil
from pathlib import Path

import pytest

from data_sharding.manifest import ShardSet
from data_sharding.stats import CorpusStats
from launch.retrieve_command import retrieve_command, was_seen
from launch.run_data import RunData
from pretrain.checkpoint import Progress, open_checkpoint
from pretrain.models import Backbone
from tiny import tiny_backbone, write_checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory, sample_shards):
    """A run with one checkpoint of an untrained backbone."""
    run = tmp_path_factory.mktemp("run")
    stats = sample_shards / "stats"
    backbone = Backbone(tiny_backbone(), CorpusStats.load(stats), stats / "tokenizer.json")

    def write(folder):
        backbone.eval().save(folder / "backbone")
        (folder / "config.json").write_text(json.dumps({"data": {"shards": str(sample_shards)}}))

    write_checkpoint(run, Progress(step=1, samples_consumed=16), write)
    return run


def test_a_shard_set_is_searched_and_the_report_lies_in_the_run(run, sample_shards, capsys):
    options = ["--split", "probe", "--group-key", "group", "--cutoffs", "1", "5"]
    assert retrieve_command([str(run), str(sample_shards), *options]) == 0
    printed = capsys.readouterr().out
    assert "image -> audio" in printed
    (path,) = (run / "retrieval").rglob("*.json")
    assert re.fullmatch(r"shards-probe-[0-9a-f]{8}-[0-9a-f]{8}\.json", path.name)
    report = json.loads(path.read_text())
    recall = report["directions"]["text_to_image"]["recall"]
    assert list(recall) == ["1", "5"]
    assert recall["5"]["chance"] == pytest.approx(5 * recall["1"]["chance"])
    assert str(run) not in path.read_text()
    assert report["splits"] == ["probe"]
    assert report["seen_in_pretraining"] is False
    assert "The run has not learned from this split" in printed


def test_another_question_does_not_replace_the_answer_to_the_first(
    run, sample_shards, monkeypatch, tmp_path, capsys
):
    (tmp_path / "run").symlink_to(run)
    monkeypatch.chdir(sample_shards)
    paths = set()
    for options in (["--cutoffs", "1"], ["--cutoffs", "2"], ["--cutoffs", "1"]):
        retrieve_command([str(tmp_path / "run"), ".", "--split", "probe", *options])
        paths.add(capsys.readouterr().out.split()[-1])
    assert len(paths) == 2
    assert all(Path(path).name.startswith("shards-probe-") for path in paths)


@pytest.mark.parametrize("options", [["--split", "train"], []], ids=["train", "all splits"])
def test_samples_that_the_run_has_learned_from_are_refused(run, sample_shards, options):
    with pytest.raises(ValueError, match=r"has learned from its split 'train'.*--allow-seen"):
        retrieve_command([str(run), str(sample_shards), *options])


def test_the_report_says_when_seen_samples_were_asked_for(run, sample_shards, tmp_path, capsys):
    options = ["--split", "train", "--allow-seen", "--out", str(tmp_path / "seen.json")]
    assert retrieve_command([str(run), str(sample_shards), *options]) == 0
    assert json.loads((tmp_path / "seen.json").read_text())["seen_in_pretraining"] is True
    assert "The run has learned from these samples" in capsys.readouterr().out


def test_what_a_run_has_read_is_told_by_its_record_of_digests(run, sample_shards, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    checkpoint = open_checkpoint(copied)
    config = copied / "checkpoints" / checkpoint.folder.name / "config.json"
    config.write_text(json.dumps({"data": {"shards": "gone", "split": "train"}}))
    train = ShardSet.open(sample_shards, "train")
    assert was_seen(checkpoint, train) is None
    assert was_seen(checkpoint, ShardSet.open(sample_shards, "probe")) is False
    entries = [
        {"location": "gone", "digest": digest, "num_samples": 9}
        for digest in ("0" * 64, train.digest)
    ]
    for phases, expected in (
        ([(0, [1.0, 1.0])], True),
        ([(0, [1.0])], False),
        ([(0, [1.0, 0.0]), (640, [1.0, 1.0])], False),  # it came after this checkpoint
    ):
        RunData(sets=entries, phases=phases).write(copied)
        assert was_seen(checkpoint, train) is expected


def test_a_set_that_has_grown_since_is_not_called_unseen(run, sample_shards, tmp_path):
    copied = shutil.copytree(run, tmp_path / "run")
    entry = {"location": str(sample_shards), "digest": "0" * 64, "num_samples": 9}
    RunData(sets=[entry], phases=[(0, [1.0])]).write(copied)
    assert was_seen(open_checkpoint(copied), ShardSet.open(sample_shards, "train")) is None


def test_a_task_names_its_own_split(run):
    with pytest.raises(ValueError, match="names its own split"):
        retrieve_command([str(run), "sample-topics", "--split", "probe"])
