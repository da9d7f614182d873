"""What a resumed run may change, told by the options' names."""

import shutil
from dataclasses import replace

import pytest

from data_sharding.stats import TOKENIZER_FILE, CorpusStats
from launch.drift import check_options, find_drift, refuse_drift, refuse_other_statistics
from launch.errors import DriftError
from launch.run_config import load_run_config
from pretrain.config import PretrainConfig, config_to_json
from pretrain.optim import OptimConfig
from tiny import tiny_pretrain


@pytest.fixture
def config(tmp_path) -> PretrainConfig:
    return tiny_pretrain(tmp_path / "shards")


def refuse(before, now, *allowed):
    refuse_drift(find_drift(config_to_json(before), now), allowed, "runs/a")


def test_where_data_lies_and_how_a_run_is_executed_and_logged_may_change(config, tmp_path):
    now = replace(
        config,
        data=replace(config.data, shards=str(tmp_path / "moved"), stats=tmp_path / "stats"),
        batch=replace(config.batch, micro_samples=4),
        zero_stage=0,
        log_every_steps=2,
        checkpoint_every_steps=7,
        max_skipped_in_a_row=9,
    )
    refuse(config, now)


def test_what_decides_the_weights_is_refused_one_option_a_line(config):
    now = replace(
        config, total_steps=80, seed=3, optim=replace(config.optim, weight_decay=0.5), zero_stage=0
    )
    with pytest.raises(DriftError) as caught:
        refuse(config, now)
    lines = str(caught.value).splitlines()
    assert lines[0] == "runs/a: cannot go on, since what decides the weights has changed:"
    assert [line.split()[0] for line in lines[1:-1]] == [
        "pretrain.optim.weight_decay:", "pretrain.seed:", "pretrain.total_steps:",
    ]  # fmt: skip
    assert lines[2] == "  pretrain.seed: 0 -> 3"
    assert "--allow-drift pretrain.optim.weight_decay" in lines[-1]


def test_an_option_or_a_whole_part_may_be_allowed(config):
    now = replace(config, seed=3, optim=OptimConfig(learning_rate=1.0, weight_decay=0.5))
    with pytest.raises(DriftError, match=r"pretrain\.seed"):
        refuse(config, now, "pretrain.optim")
    refuse(config, now, "pretrain.optim", "pretrain.seed")
    with pytest.raises(DriftError, match=r"pretrain\.optim\.learning_rate"):
        refuse(config, now, "pretrain.opt", "pretrain.seed")


def test_an_option_that_is_newer_than_the_checkpoint_had_its_default(config):
    before = config_to_json(config)
    del before["max_skipped_in_a_row"], before["optim"]["weight_decay"]
    assert find_drift(before, config) == {}
    before["old_option"] = 1
    assert find_drift(before, config) == {"old_option": "1 -> (there is no such option)"}


def test_other_statistics_or_another_vocabulary_are_refused(sample_shards, tmp_path):
    before, now = tmp_path / "backbone", tmp_path / "stats"
    shutil.copytree(sample_shards / "stats", before)
    shutil.copytree(sample_shards / "stats", now)
    refuse_other_statistics(before, now, "runs/a")
    stats = CorpusStats.load(now)
    replace(stats, mel_mean=stats.mel_mean + 0.5).save(now)
    with pytest.raises(ValueError, match=r"runs/a: cannot go on, since the statistics in .*stats"):
        refuse_other_statistics(before, now, "runs/a")
    stats.save(now)
    (now / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(ValueError, match=r"since the vocabulary in .*stats is not what was"):
        refuse_other_statistics(before, now, "runs/a")


def test_a_name_that_is_no_option_is_refused_with_a_suggestion(config):
    check_options(config, ("pretrain.optim", "pretrain.optim.weight_decay"))
    with pytest.raises(ValueError, match=r"did you mean pretrain\.optim\.weight_decay\?"):
        check_options(config, ("pretrain.optim.weigth_decay",))


def test_a_number_that_is_none_is_refused_by_its_options_name(config):
    with pytest.raises(ValueError, match=r"pretrain\.optim\.learning_rate must be finite, got inf"):
        check_options(replace(config, optim=OptimConfig(learning_rate=float("inf"))), ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"run": "a", "ranks": 1, "ranks": 2}', "key ranks is given twice"),
        ('{"run": "a", "ranks": NaN}', "NaN is no number"),
        ("[" * 100_000, "no run configuration"),
        ('{"run": "a",\t}', "no run configuration"),
    ],
)
def test_a_file_that_says_two_things_or_nothing_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"config.json: .*{message}"):
        load_run_config(tmp_path)
