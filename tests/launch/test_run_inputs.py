"""Runs on blends and on remote shards, bad samples included: from the settings to the metrics."""

import json
import shutil
from dataclasses import replace

import pytest

from data_sharding.index import read_index
from data_sharding.manifest import ShardSet
from data_sharding.reading.reader import ReaderConfig
from data_sharding.stats import StatsConfig, compute_stats
from data_sharding.stream.loader import LoaderConfig
from data_sharding.stream.source import append_phase, write_blend
from launch.run_config import prepare_run, save_run_config
from launch.starts import read_starts
from pretrain.config import DataConfig
from tiny import losses, tiny_run
from tiny_shards import served
from warm_ranks import run_warm


@pytest.fixture
def blend(tmp_path, sample_shards):
    """The sample corpus and a copy of it in which three pictures are broken."""
    shutil.copytree(sample_shards, tmp_path / "second")
    (entry,) = ShardSet.open(tmp_path / "second", "train").shards
    index = read_index(tmp_path / "second" / entry.index_file)
    column = index.parts.index("jpg")
    with (tmp_path / "second" / entry.file).open("r+b") as tar:
        for row in range(3):
            start = int(index.sample_offsets[row]) + int(index.part_offsets[row, column])
            tar.seek(start + 100)
            tar.write(b"broken")
    write_blend(tmp_path / "mix", {str(sample_shards): 1.0, str(tmp_path / "second"): 3.0}, "train")
    compute_stats(tmp_path / "mix", StatsConfig())
    return tmp_path / "mix"


def test_a_run_on_a_blend_replaces_bad_samples_and_takes_new_weights_on_resume(
    tmp_path, blend, sample_shards
):
    config = tiny_run(tmp_path / "run", blend, total_steps=24, checkpoint_every_steps=24)
    prepare_run(config, resume=False)
    assert run_warm(config.run, 1) == 0
    assert len(losses(config.run)) == 24
    ledger = config.run / "data" / "substitutions-rank-00000.jsonl"
    recorded = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert {line["member"] for line in recorded} == {"jpg"}
    last = json.loads((config.run / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0.0 <= last["data/wait_share"] <= 1.0
    assert last["data/samples_per_second"] > 0.0
    weights = {str(sample_shards): 1.0, str(tmp_path / "second"): 1.0}
    append_phase(blend, weights, 24 * 16, "train")
    longer = replace(
        config,
        pretrain=replace(config.pretrain, total_steps=25),
        allow_drift=("pretrain.total_steps",),
    )
    save_run_config(longer)
    assert run_warm(config.run, 1) == 0
    phases = json.loads((config.run / "data.json").read_text())["phases"]
    assert phases == [[0, [1.0, 3.0]], [384, [1.0, 1.0]]]
    assert len(losses(config.run)) == 25
    assert read_starts(config.run)[1].drift == {"total_steps": "24 -> 25"}


def test_a_run_reads_remote_shards_through_the_nodes_cache(tmp_path, sample_shards):
    with served(sample_shards) as server:
        data = DataConfig(
            shards=server.url,
            stats=sample_shards / "stats",
            loader=LoaderConfig(
                num_workers=1, reader=ReaderConfig(cache_folder=tmp_path / "cache")
            ),
        )
        remote = tiny_run(tmp_path / "remote", sample_shards, data=data, total_steps=3)
        prepare_run(remote.with_absolute_paths(), resume=False)
        assert run_warm(remote.run, 1) == 0
    local = tiny_run(tmp_path / "local", sample_shards, total_steps=3)
    prepare_run(local, resume=False)
    assert run_warm(local.run, 1) == 0
    assert losses(remote.run) == losses(local.run)
    assert list((tmp_path / "cache").rglob("*-00000000*"))


def test_remote_shards_need_a_folder_of_statistics():
    data = DataConfig(shards="https://example.org/shards")
    with pytest.raises(ValueError, match=r"triptych stats https://example\.org/shards --out stats"):
        data.stats_folder.exists()
