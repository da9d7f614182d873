"""`triptych retrieve` on the sample corpus."""

import json

import pytest

from data_sharding.stats import CorpusStats
from launch.retrieve_command import retrieve_command
from pretrain.checkpoint import Progress, write_checkpoint
from pretrain.models import Backbone
from tiny import tiny_backbone


class OneRank:
    rank, world_size = 0, 1

    def agree(self, ok):
        return ok


@pytest.fixture(scope="module")
def run(tmp_path_factory, sample_shards):
    """A run with one checkpoint of an untrained backbone."""
    run = tmp_path_factory.mktemp("run")
    stats = sample_shards / "stats"
    backbone = Backbone(tiny_backbone(), CorpusStats.load(stats), stats / "tokenizer.json")

    def write(folder):
        backbone.eval().save(folder / "backbone")
        (folder / "config.json").write_text(json.dumps({"data": {"shards": str(sample_shards)}}))

    write_checkpoint(run, Progress(step=1, samples_consumed=16), [write], OneRank())
    return run


def test_a_shard_set_is_searched_and_the_report_lies_in_the_run(run, sample_shards, capsys):
    options = ["--split", "probe", "--group-key", "group", "--cutoffs", "1", "5"]
    assert retrieve_command([str(run), str(sample_shards), *options]) == 0
    printed = capsys.readouterr().out
    assert "image -> audio" in printed
    (path,) = (run / "retrieval").rglob("*.json")
    assert path.name == "shards-probe.json"
    report = json.loads(path.read_text())
    recall = report["directions"]["text_to_image"]["recall"]
    assert list(recall) == ["1", "5"]
    assert recall["5"]["chance"] == pytest.approx(5 * recall["1"]["chance"])
    assert str(run) not in path.read_text()


def test_a_task_names_its_own_split(run):
    with pytest.raises(ValueError, match="names its own split"):
        retrieve_command([str(run), "sample-topics", "--split", "probe"])
