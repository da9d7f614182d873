"""What other probes a run is asked for: in its protocol, and in one report after another."""

import dataclasses
import shutil

import pytest

from eval.probes.attentive import AttentiveConfig
from eval.probes.few_shot import FewShotConfig
from eval.probes.knn_probe import KnnProbeConfig
from eval.probes.linear_probe import LinearProbeConfig
from eval.probes.probe import ProbeConfig, probe, report_path
from eval.probes.probe_config import describe_protocol
from eval.probes.probe_report import OTHERS
from eval.records import read_json
from eval.splits import SplitConfig

KINDS = ("knn", "attentive", "few-shot")
NAMES = ["knn", "attentive", "few-shot 5 %", "few-shot 20 %"]
QUICK = ProbeConfig(
    splits=SplitConfig(num_splits=2),
    linear=LinearProbeConfig(inverse_regularisation=(0.01, 1.0), max_iterations=100),
    num_random_backbones=1,
)
ALSO = dataclasses.replace(
    QUICK,
    also=KINDS,
    knn=KnnProbeConfig(num_neighbours=(1, 5), temperature=(0.1, 1.0)),
    attentive=AttentiveConfig(
        learning_rates=(1e-2,), epochs=2, batch_size=16, width=8, num_heads=1
    ),
    few_shot=FewShotConfig(shares=(0.05, 0.2)),
)


def test_the_protocol_tells_of_other_probes_only_where_they_are_asked_for(few_topics):
    assert OTHERS not in describe_protocol(QUICK, few_topics.card)
    changed = dataclasses.replace(QUICK, knn=ALSO.knn)
    assert describe_protocol(changed, few_topics.card) == describe_protocol(QUICK, few_topics.card)
    told = describe_protocol(ALSO, few_topics.card)[OTHERS]
    assert told["knn"]["num_neighbours"] == [1, 5]
    assert "validation part stays whole" in told["few-shot"]["draws"]
    assert "n_test/n_learn of the whole splits" in told["few-shot"]["interval"]
    turned = dataclasses.replace(ALSO, also=tuple(reversed(ALSO.also)))
    assert describe_protocol(turned, few_topics.card)[OTHERS] == told


def test_a_probe_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"probe\.also names a probe twice: knn, knn"):
        ProbeConfig(also=("knn", "knn"))


def test_what_is_asked_later_is_added_to_what_a_report_holds(checkpoint, few_topics, tmp_path):
    shutil.copytree(checkpoint.run, tmp_path / "run", ignore=shutil.ignore_patterns("probes"))
    folder = tmp_path / "run" / "checkpoints" / checkpoint.folder.name
    own = dataclasses.replace(checkpoint, folder=folder)
    config = dataclasses.replace(ALSO, representations=("text", "image", "fused"))
    linear = dataclasses.replace(QUICK, representations=config.representations)
    path = report_path(own, few_topics)

    plain = probe(own, few_topics, linear)
    probe(own, few_topics, dataclasses.replace(config, also=("knn", "attentive")))
    found = probe(own, few_topics, dataclasses.replace(config, also=("few-shot",)))
    for name in config.representations:
        part = found.subsets[name]
        single = name == "image"  # its encoder makes one place of a small picture
        assert list(part.others) == [other for other in NAMES if other != "attentive" or not single]
        assert list(part.others_missing) == ["attentive"] * single
        bare = dataclasses.replace(part, others={}, others_missing={})
        assert dataclasses.asdict(bare) == dataclasses.asdict(plain.subsets[name])
    assert set(found.subsets["late"].others_missing) == set(NAMES)
    assert "NaN" not in path.read_text()

    before = (path.read_bytes(), path.stat().st_mtime_ns)
    for asked in (linear, dataclasses.replace(config, also=("knn",)), config):
        probe(own, few_topics, asked)  # less is asked: what is there answers
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert read_json(path)["protocol"][OTHERS].keys() == set(KINDS)
