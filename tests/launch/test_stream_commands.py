import pytest

from data_sharding.job import ShardingConfig, shard_corpus
from data_sharding.stream.source import open_stream
from launch.stream_commands import blend_command, parse_weights, stream_command
from tiny_corpus import write_corpus

SMALL = ["--order.block-samples", "2", "--order.lanes", "2", "--workers", "0", "--batch", "8"]
BRIEF = ["--seconds", "0.3", "--line-seconds", "0.1"]


@pytest.fixture
def sets(tmp_path):
    for name, count in (("a", 24), ("b", 12)):
        write_corpus(tmp_path / "corpora" / name, count)
        shard_corpus(tmp_path / "corpora" / name, tmp_path / name, ShardingConfig())
    return tmp_path


def test_sets_are_blended_and_streamed_in_one_command_each(sets, capsys):
    out = str(sets / "mix")
    assert blend_command([out, f"{sets}/a=0.5", f"{sets}/b=0.5"]) == 0
    assert f"{sets}/a: 18 samples, 50.0% of the stream" in capsys.readouterr().out
    assert stream_command([out, *SMALL, *BRIEF]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "samples/s" in last
    assert "0 replaced" in last
    assert last.endswith("sets 50.0% 50.0%")


def test_weights_are_changed_from_a_sample_on_and_the_vocabulary_stays(sets, capsys):
    out = sets / "mix"
    blend_command([str(out), f"{sets}/a"])
    tokenizer = (out / "stats" / "tokenizer.json").read_bytes()
    blend_command([str(out), "--from-sample", "800", f"{sets}/a=3", f"{sets}/b=1"])
    assert "from samples 0, 800 on" in capsys.readouterr().out
    assert open_stream(out).phases[1].weights == (3.0, 1.0)
    assert (out / "stats" / "tokenizer.json").read_bytes() == tokenizer


def test_a_weight_that_is_no_number_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'x' is no weight; write shards=0\.4"):
        parse_weights(("shards=x",))
    with pytest.raises(ValueError, match="given twice"):
        parse_weights(("shards", "shards=2"))


def test_a_source_without_statistics_says_how_to_make_them(sets):
    with pytest.raises(Exception, match="triptych stats"):
        stream_command([str(sets / "a"), *SMALL, *BRIEF])
