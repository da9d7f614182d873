"""kNN, attentive and few-shot probes beside the linear one, in one report."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eval.metrics import METRICS
from eval.pages.others_table import others_table
from eval.pages.run_pages import renew_pages
from eval.probes.attentive import AttentiveConfig
from eval.probes.attentive_tokens import TokenTable
from eval.probes.best import choose_best
from eval.probes.few_shot import FewShotConfig
from eval.probes.knn_probe import KnnProbeConfig
from eval.probes.linear_probe import LinearProbeConfig, SplitProblem
from eval.probes.other_probes import OtherProbes, keep_others, probe_others
from eval.probes.probe_report import OTHERS, format_table, report_from_json, tell
from eval.probes.regression import RegressionProblem, RidgeConfig
from eval.probes.subset_probe import SubsetInput, probe_subsets
from eval.probes.subset_report import Measure
from eval.records import to_json_text, write_json
from eval.splits import Split, SplitConfig, draws_of_fixed_parts, group_splits, strata_of
from tiny_tasks import CLASSES

ASKED = OtherProbes(
    kinds=("knn", "attentive", "few-shot"),
    knn=KnnProbeConfig(num_neighbours=(1, 5), temperature=(0.1, 1.0)),
    attentive=AttentiveConfig(
        learning_rates=(1e-2,), epochs=15, batch_size=16, width=8, num_heads=1
    ),
    few_shot=FewShotConfig(shares=(0.05, 0.2)),
)
NAMES = ["knn", "attentive", "few-shot 5 %", "few-shot 20 %"]
BRIEF = dataclasses.replace(ASKED, attentive=dataclasses.replace(ASKED.attentive, epochs=2))
"""For what does not depend on the scores."""
LINEAR = LinearProbeConfig(inverse_regularisation=(0.01, 1.0), max_iterations=100)


def clouds(parts=3, num_splits=10):
    """Features that tell the class, fresh ones that do not, and tokens of both."""
    generator = np.random.default_rng(0)
    labels = (np.arange(120) % 3).astype(np.int64)
    groups = [str(row) for row in range(120)]
    centres = np.eye(3, 8)[labels]
    own = (3.5 * centres + generator.normal(size=(120, 8))).astype(np.float32)
    fresh = generator.normal(size=(2, 120, 8)).astype(np.float32)
    problems = [
        SplitProblem(labels=labels, groups=groups, split=split, num_classes=3, config=LINEAR)
        for split in group_splits(labels, groups, SplitConfig(num_splits=num_splits))
    ]
    return SubsetInput(
        subset="image",
        pretrained=own,
        random={"0": fresh[0], "1": fresh[1]},
        texts=None,
        problems=problems,
        measure=Measure(classes=CLASSES, metrics=METRICS, metric="macro_f1"),
        tokens={"pretrained": tokens_of(own, parts), "0": tokens_of(fresh[0], parts)},
    )


def tokens_of(features, parts):
    values = torch.from_numpy(features)[:, None].expand(-1, parts, -1)
    mask = torch.ones(len(features), parts, dtype=torch.bool)
    return TokenTable.of({"image": values}, {"image": mask})


@pytest.fixture(scope="module")
def found():
    given = clouds()
    return probe_others(probe_subsets([given]), [given], ASKED)["image"]


def test_every_probe_is_measured_on_the_pretrained_and_on_fresh_features(found):
    assert list(found.others) == NAMES
    for name, other in found.others.items():
        # One sample of each class gains 15 points, give or take 18.
        assert other.versus_random.beats is (name != "few-shot 5 %"), name
        assert len(other.pretrained.metrics["macro_f1"].per_split) == 10
        assert len(other.pretrained.validation_macro_f1) == 10
        seeds = ["0"] if name == "attentive" else ["0", "1"]
        assert list(other.random_seeds) == seeds
        mean = np.mean(list(other.random_seeds.values()))
        assert other.random.metrics["macro_f1"].mean == pytest.approx(mean)
        gain = other.pretrained.metrics["macro_f1"].mean - mean
        assert other.versus_random.difference.mean == pytest.approx(gain)


def test_intervals_are_corrected_for_the_whole_splits_however_few_the_labels(found):
    def times_as_wide(summary):
        whole, uncorrected = summary.interval, summary.interval_uncorrected
        return (whole.high - whole.low) / (uncorrected.high - uncorrected.low)

    wanted = times_as_wide(found.pretrained.metrics["macro_f1"])
    for name in NAMES:
        other = found.others[name]
        assert times_as_wide(other.pretrained.metrics["macro_f1"]) == pytest.approx(wanted), name
        assert times_as_wide(other.versus_random.difference) == pytest.approx(wanted), name


def test_the_report_says_what_was_chosen_and_on_how_many_it_was_trained(found):
    sizes = [split["train"] for split in found.split_sizes]
    assert set(found.others["knn"].chosen[0]) == {"num_neighbours", "temperature"}
    assert found.others["attentive"].chosen[0]["learning_rate"] == 1e-2
    assert list(found.others["knn"].num_trained_on) == sizes
    few = found.others["few-shot 5 %"]
    assert list(few.num_trained_on) == [3] * 10
    assert len(few.pretrained.inverse_regularisation) == 10
    tested = sum(split["test"] for split in found.split_sizes)
    assert all(np.sum(one.pretrained.confusion) == tested for one in found.others.values())


def test_more_labels_are_worth_more(found):
    few, more = (found.others[name].pretrained.metrics["macro_f1"].mean for name in NAMES[2:])
    assert few < more < found.pretrained.metrics["macro_f1"].mean + 0.02


def test_what_was_asked_is_the_same_again():
    given = clouds(num_splits=2)
    linear = probe_subsets([given])
    one, again = (probe_others(linear, [given], BRIEF)["image"] for _ in range(2))
    assert dataclasses.asdict(one) == dataclasses.asdict(again)


def test_a_single_token_leaves_the_attentive_probe_out_with_its_reason():
    given = clouds(parts=1, num_splits=1)
    found = probe_others(probe_subsets([given], given.problems), [given], ASKED)
    assert "attentive" not in found["image"].others
    assert "one token a sample" in found["image"].others_missing["attentive"]
    assert found["image"].others["knn"].versus_random.beats is None
    assert set(found["late"].others_missing) == set(NAMES)
    assert "no features of its own" in found["late"].others_missing["knn"]


def test_numbers_as_labels_on_fixed_parts_have_bootstrapped_intervals(monkeypatch):
    monkeypatch.setattr("eval.probes.subset_report.NUM_RESAMPLES", 20)  # 500 take seconds
    generator = np.random.default_rng(0)
    labels, rows = generator.uniform(-3.0, 3.0, 160), np.arange(160)
    groups = [str(row) for row in rows]
    parts = Split(train=rows[:80], validation=rows[80:120], test=rows[120:])
    problems = [
        RegressionProblem(
            labels=labels,
            groups=groups,
            split=draw,
            cuts="mosi",
            bounds=(-3.0, 3.0),
            config=RidgeConfig(),
        )
        for draw in draws_of_fixed_parts(parts, strata_of(labels), groups, SplitConfig())
    ]
    noise = generator.normal(size=(2, 160, 4)).astype(np.float32)
    own = noise[0] + labels[:, None].astype(np.float32)
    given = SubsetInput(
        subset="image",
        pretrained=own,
        random={"0": noise[1]},
        texts=None,
        problems=problems,
        measure=Measure(classes=(), metrics=("mae", "pearson"), metric="mae", sign=-1, fixed=True),
        tokens={"pretrained": tokens_of(own, 2), "0": tokens_of(noise[1], 2)},
    )
    found = probe_others(probe_subsets([given]), [given], ASKED)["image"]
    for name in ("knn", "attentive", "few-shot 20 %"):
        other = found.others[name]
        assert other.versus_random.beats is True, name
        assert "bootstrapped" in other.versus_random.reason
        assert other.versus_random.difference.mean > 0.3
        assert len(other.pretrained.validation_mae) == 5
        assert other.pretrained.validation_macro_f1 is None


@pytest.fixture(scope="module")
def report(make_report, found):
    """A report with other probes of one representation, and an older one without any."""
    older = make_report(num_splits=1)
    image = dataclasses.replace(found, others_missing={"attentive": "there is a reason"})
    protocol = {
        **older.protocol,
        OTHERS: {"knn": {}, "attentive": {}, "few-shot": {"shares": [0.05]}},
    }
    return dataclasses.replace(
        older, subsets={**older.subsets, "image": image}, protocol=protocol
    ), older


def test_other_probes_come_back_from_json_as_they_were(report):
    text = to_json_text(report[0].to_json())
    again = report_from_json(json.loads(text))
    assert to_json_text(again.to_json()) == text
    assert again.subsets["image"].others["knn"] == report[0].subsets["image"].others["knn"]
    assert set(json.loads(text)["subsets"]["text"]) == {
        field.name for field in dataclasses.fields(again.subsets["text"])
    } - {"others", "others_missing"}


def test_a_report_of_before_there_were_other_probes_has_none(report):
    record = json.loads(to_json_text(report[1].to_json()))
    assert "others" not in to_json_text(record)
    again = report_from_json(record)
    assert all(part.others == {} for part in again.subsets.values())
    assert "few-shot" not in format_table(again)


def test_a_table_has_a_row_for_each_probe_of_each_representation(report):
    table = format_table(report[0])
    cells = [re.split(r"\s*│\s*", line) for line in table.splitlines()]
    rows = [row[1:-1] for row in cells if len(row) == 8]
    assert [row[:2] for row in rows] == [["image", name] for name in NAMES]
    assert [row[-1] for row in rows] == ["yes", "yes", "no", "yes"]
    knn = report[0].subsets["image"].others["knn"]
    assert rows[0][3] == tell(knn.pretrained.metrics["macro_f1"], "macro_f1")
    assert "image, attentive: there is a reason" in table
    caption = " ".join(table.split())
    assert "the whole validation part" in caption
    for shown in (caption, others_table(report[0]).note):
        assert "attentive: its random floor is one fresh backbone" in shown


def test_tensorboard_shows_every_probe_beside_the_linear_one(report, checkpoint, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(checkpoint.run, run, ignore=shutil.ignore_patterns("probes"))
    write_json(run / "probes" / "step-00000200" / "clouds.json", report[0].to_json())
    renew_pages(run)
    shown = EventAccumulator(str(run / "tensorboard" / "probes")).Reload()
    image = report[0].subsets["image"]
    for tag, name in (("knn", "knn"), ("few-shot_5_percent", "few-shot 5 %")):
        (point,) = shown.Scalars(f"probe/clouds/image/{tag}/macro_f1")
        other = image.others[name]
        assert point.value == pytest.approx(other.pretrained.metrics["macro_f1"].mean)
        (floor,) = shown.Scalars(f"probe/clouds/image/{tag}/random")
        assert floor.value == pytest.approx(other.random.metrics["macro_f1"].mean)
        assert shown.Scalars(f"probe/clouds/image/{tag}/validation")


def test_other_probes_do_not_keep_a_checkpoint_from_being_the_best(report):
    asked, older = report
    later = dataclasses.replace(
        asked,
        subsets=older.subsets,
        checkpoint={**older.checkpoint, "name": "step-00000300", "step": 300, "digest": "ef" * 32},
    )
    unfit = {older.checkpoint["digest"]: None, "ef" * 32: None}
    choice = choose_best([older, later], [], unfit)
    assert [candidate.left_out for candidate in choice.candidates] == [None, None]


def test_a_report_keeps_the_probes_that_an_earlier_one_holds(report):
    known, linear = report
    asked = {"few-shot": {"shares": [0.2]}}
    others = {"few-shot 20 %": known.subsets["image"].others["knn"]}
    image = dataclasses.replace(linear.subsets["image"], others=others)
    new = dataclasses.replace(
        linear,
        subsets={**linear.subsets, "image": image},
        protocol={**linear.protocol, OTHERS: asked},
    )
    kept = keep_others(new, known)
    assert set(kept.subsets["image"].others) == {"knn", "attentive", "few-shot 20 %"}
    assert kept.subsets["image"].others["few-shot 20 %"] == others["few-shot 20 %"]
    assert kept.subsets["image"].others_missing == {"attentive": "there is a reason"}
    assert kept.protocol[OTHERS] == {"attentive": {}, "knn": {}, **asked}
    assert kept.findings == ("few-shot: an earlier probe with other options was replaced",)
