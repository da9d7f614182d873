import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval.pages.compare_runs import compare_runs
from eval.pages.conclusions import conclusions
from eval.pages.paired_reports import holm, pair, why_not_comparable
from eval.pages.runs_page import render_comparison
from eval.pages.runs_table import format_comparison, format_markdown
from eval.pages.scored import linear_answer
from eval.records import write_json
from launch.compare_command import compare_command
from tiny_probes import BASE, SIZES, report, shifted, subset, whole_checkpoint, write_run

HALF = 2.262157 * 0.01 * math.sqrt(10 / 9) * math.sqrt(1 / 10 + 30 / 70)
"""Half the 95 % interval of a difference whose splits differ by NOISE: t(9), Nadeau and Bengio."""
EVIL = "<b onclick=x>*mood*|"


def compared(tmp_path, *values, **options):
    runs = [
        write_run(tmp_path / f"run-{place}", report([subset("text", list(each))]))
        for place, each in enumerate(values)
    ]
    return compare_runs(runs, which="newest", **options)


def paired(one, other, name="text"):
    return pair(one.task, *(linear_answer(found).scored[name] for found in (one, other)))


def unlike(one, other, name="text"):
    return why_not_comparable(linear_answer(one), linear_answer(other), name)


def differences(comparison, name="text"):
    (table,) = comparison.tables
    return table.differences[name]


@pytest.mark.parametrize(
    ("by", "verdict"),
    [(0.05, "better"), (-0.05, "worse"), (0.9 * HALF, "within"), (1.1 * HALF, "better")],
)
def test_a_difference_counts_where_it_exceeds_its_interval(tmp_path, by, verdict):
    found = differences(compared(tmp_path, BASE, shifted(by)))["run-1"]
    assert found.verdict == verdict
    gain = found.paired.gain
    assert gain.mean == pytest.approx(by)
    assert gain.interval.high - gain.mean == pytest.approx(HALF, rel=1e-4)


def test_several_runs_are_corrected_for_their_number(tmp_path):
    by = 1.1 * HALF  # alone it exceeds its interval, one of two such does not
    found = differences(compared(tmp_path, BASE, shifted(by), shifted(by), shifted(0.2)))
    assert [one.verdict for one in found.values()] == ["uncorrected", "uncorrected", "better"]
    assert found["run-1"].p_corrected == pytest.approx(2 * found["run-1"].paired.p)


def test_holm_is_what_his_paper_says():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_too_few_splits_give_no_verdict(tmp_path):
    found = differences(compared(tmp_path, BASE[:9], shifted(0.3)[:9]))["run-1"]
    assert found.verdict == "open"
    assert "9 splits" in found.reason


@given(st.lists(st.floats(-1.0, 1.0), min_size=10, max_size=10))
def test_p_is_small_where_the_interval_does_not_hold_zero(values):
    one, other = report([subset("text", values)]), report([subset("text", [0.0] * 10)])
    found = paired(one, other)
    gain = found.gain
    assume(min(abs(gain.interval.low), abs(gain.interval.high)) > 1e-9)
    assert (found.p < 0.05) == (gain.interval.low > 0.0 or gain.interval.high < 0.0)


def test_where_less_is_better_the_smaller_error_is_better():
    task = {"metric": "mae", "classes": [], "label_range": [-3.0, 3.0]}
    first, second = (
        report([subset("text", list(values), metric="mae")], task=task)
        for values in (BASE, shifted(-0.05))
    )
    found = paired(second, first)
    assert found.gain.mean == pytest.approx(0.05)
    assert found.p < 0.05


FIXED = {"fixed_parts": ["train", "valid", "test"]}


@pytest.mark.parametrize(
    ("interval", "verdict"), [((0.55, 0.65), "better"), ((0.51, 0.69), "within")]
)
def test_on_a_fixed_test_part_the_widest_interval_decides(tmp_path, interval, verdict):
    first = report([subset("text", [0.5] * 5, interval=(0.46, 0.54))], task=FIXED)
    second = report([subset("text", [0.6] * 5, interval=interval)], task=FIXED)
    runs = [write_run(tmp_path / "a", first), write_run(tmp_path / "b", second)]
    found = differences(compare_runs(runs, which="newest"))["b"]
    assert found.verdict == verdict
    assert found.paired.gain.interval.low == pytest.approx(interval[0] - 0.54)


def test_a_fixed_test_part_without_enough_training_draws_gives_no_verdict():
    first = report([subset("text", [0.5] * 5, interval=(0.4, 0.6), beats=None)], task=FIXED)
    second = report([subset("text", [0.9] * 5, interval=(0.8, 0.95))], task=FIXED)
    found = paired(second, first)
    assert found.p is None
    assert "3 different training draws" in found.reason


@pytest.mark.parametrize("correlation", [-1.0, -0.5, 0.0, 0.5, 0.99])
def test_the_widest_interval_holds_the_paired_one_however_scores_move_together(correlation):
    generator = np.random.default_rng(0)
    covariance = np.array([[4.0, 6.0 * correlation], [6.0 * correlation, 9.0]]) * 1e-4
    draws = generator.multivariate_normal([0.6, 0.5], covariance, 20_000)
    ends = np.percentile(draws, (2.5, 97.5), axis=0)  # [end, run]
    one, other = (
        report([subset("text", [mean] * 5, interval=tuple(ends[:, place]))], task=FIXED)
        for place, mean in enumerate((0.6, 0.5))
    )
    widest = paired(one, other).gain.interval
    low, high = np.percentile(draws[:, 0] - draws[:, 1], (2.5, 97.5))
    slack = 0.002  # of 20,000 draws
    assert widest.low < low + slack
    assert widest.high > high - slack


OTHER_SIZES = SIZES | {"train": 49, "test": 31}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"shards": "cd" * 32}, "other shards (cdcdcdcd and abababab)"),
        (
            {"protocol": {"linear": {"max_iterations": 9}}},
            "other protocols (linear.max_iterations)",
        ),
        ({"protocol": {"splits": {"num_splits": 10, "seed": 1}}}, "other protocols (splits.seed)"),
        ({"protocol": {"rows": "shared"}}, "other protocols (rows)"),
        ({"task": {"classes": ["sad", "glad"]}}, "other cards (classes)"),
        ({"subsets": [subset("text", shifted(0.3), sizes=OTHER_SIZES)]}, "other splits"),
    ],
)
def test_reports_that_answer_another_question_are_not_compared(tmp_path, changed, named):
    usual = {"subsets": [subset("text", shifted(0.3))]}
    runs = [
        write_run(tmp_path / "a", report([subset("text", list(BASE))])),
        write_run(tmp_path / "b", report(**(usual | changed))),
    ]
    comparison = compare_runs(runs, which="newest")
    found = differences(comparison)["b"]
    assert (found.verdict, found.paired) == ("unlike", None)
    assert named in found.reason
    assert named in conclusions(comparison.tables[0])["b against a"]
    assert "not comparable" in format_comparison(comparison)


@pytest.mark.parametrize(
    "changed",
    [
        {"protocol": {"num_random_backbones": 1, "others": {"knn": {}}}},
        {"protocol": {"rows": "own", "copies": "refuse", "representations": ["text"]}},
        {"task": {"notes": ["imported anew"], "source": "elsewhere"}},
    ],
)
def test_what_no_score_depends_on_may_differ(changed):
    parts = [subset("text", list(BASE))]
    assert unlike(report(parts), report(parts, **changed)) is None


def test_votes_of_other_modalities_are_not_compared():
    both = [subset(name, list(BASE)) for name in ("text", "image", "late")]
    more = [*both, subset("audio", list(BASE))]
    assert unlike(report(both), report(more), "text") is None
    assert "text+image and text+image+audio" in unlike(report(both), report(more), "late")


def test_a_run_without_the_task_is_named_with_what_to_do(tmp_path):
    mood = report([subset("text", list(BASE))])
    runs = [
        write_run(tmp_path / "a", mood),
        write_run(tmp_path / "b", mood),
        write_run(tmp_path / "c", dataclasses.replace(mood, task=mood.task | {"name": "topic"})),
    ]
    (table,) = compare_runs(runs, which="newest").tables
    assert list(table.left_out) == ["c"]
    assert f"triptych probe {runs[2]} TASK" in table.left_out["c"]


def test_what_cannot_be_compared_at_all_is_refused_with_what_to_do(tmp_path):
    mood = report([subset("text", list(BASE))])
    topic = dataclasses.replace(mood, task=mood.task | {"name": "topic"})
    first, second = write_run(tmp_path / "a", mood), write_run(tmp_path / "b", topic)
    bare = write_run(tmp_path / "bare")
    for runs, words in (
        (
            [first, second],
            r"no task that two of the runs.*a: mood .*; b: topic .*triptych probe RUN",
        ),
        ([first, bare], r"bare: no checkpoint was probed; first: triptych probe"),
        ([first], "two runs or more"),
        ([first, tmp_path / "b" / ".." / "a"], "a run was given twice"),
    ):
        with pytest.raises(ValueError, match=words):
            compare_runs(runs, which="newest")
    with pytest.raises(ValueError, match="no task named 'rain'"):
        compare_runs([first, second], task="rain", which="newest")


def test_the_best_checkpoint_counts_or_the_newest_where_asked(tmp_path):
    runs = []
    for name in ("a", "b"):
        run = tmp_path / name
        for step, validation in ((100, 0.9), (200, 0.4)):
            made = report([subset("fused", list(BASE))], step=step)
            fused = made.subsets["fused"]
            own = dataclasses.replace(fused.pretrained, validation_macro_f1=(validation,) * 10)
            made = dataclasses.replace(
                made,
                checkpoint=made.checkpoint | {"digest": whole_checkpoint(run, step)},
                subsets={"fused": dataclasses.replace(fused, pretrained=own)},
            )
            write_run(run, made)
        runs.append(run)
    for which, step in (("best", 100), ("newest", 200)):
        (table,) = compare_runs(runs, which=which).tables
        assert {found.checkpoint["step"] for found in table.answers.values()} == {step}
    bare = write_run(tmp_path / "c", report([subset("fused", list(BASE))]))
    with pytest.raises(ValueError, match=r"no longer there.*--checkpoint newest"):
        compare_runs([*runs, bare])


def test_what_differs_in_the_configurations_is_listed(tmp_path):
    mood = report([subset("text", list(BASE))])
    options = [{"seed": 0, "ema": {"base_tau": 0.99}}, {"seed": 0, "ema": {"base_tau": 0.9}}]
    options[1]["compile"] = "off"  # of another version
    runs = [
        write_run(tmp_path / f"run-{place}", mood, config=each)
        for place, each in enumerate(options)
    ]
    for run, digest in zip(runs, ("11" * 32, "22" * 32), strict=True):
        write_json(run / "data.json", {"sets": [{"digest": digest, "location": "x"}]})
    comparison = compare_runs(runs, which="newest")
    assert comparison.changed == {
        "ema.base_tau": ("0.99", "0.9"),
        "sets trained on, by digest": ("11" * 6, "22" * 6),
    }
    assert comparison.num_recorded_by_some == 1
    assert "ema.base_tau: 0.99 | 0.9" in format_comparison(comparison)


def test_runs_of_one_folder_name_are_told_apart(tmp_path):
    mood = report([subset("text", list(BASE))])
    runs = [write_run(tmp_path / name / "run", mood) for name in ("a", "b")]
    assert list(compare_runs(runs, which="newest").runs) == ["a/run", "b/run"]


def test_the_command_prints_a_table_or_markdown_and_writes_a_page(tmp_path, capsys):
    for name, values in (("first", list(BASE)), ("second", shifted(0.05))):
        evil = report([subset("text", values)], task={"name": EVIL, "source": EVIL})
        write_json(tmp_path / name / "probes" / "step-00000100" / "x.json", evil.to_json())
    runs = [str(tmp_path / name) for name in ("first", "second")]
    page = tmp_path / "runs.html"
    assert compare_command([*runs, "--checkpoint", "newest", "--out", str(page)]) == 0
    told = capsys.readouterr().out
    assert re.search(
        r"second .* 55\.0 +\[5\d\.\d, 5\d\.\d\] +\+5\.0 \[\+3\.3, \+6\.7\] +better", told
    )
    assert "second against first: better: the difference exceeds its interval: text" in told
    assert EVIL in told
    assert EVIL not in page.read_text()
    assert compare_command([*runs, "--checkpoint", "newest", "--markdown"]) == 0
    told = capsys.readouterr().out
    assert EVIL not in told
    rows = [line for line in told.splitlines() if line.startswith("| text")]
    assert [row.replace(r"\|", "").count("|") for row in rows] == [10, 10]
    with pytest.raises(SystemExit):
        compare_command([*runs, "--out", str(tmp_path)])
    assert "is a folder; name a page" in " ".join(capsys.readouterr().err.split())


def test_a_score_without_an_interval_is_told_without_one(tmp_path):
    comparison = compared(tmp_path, [0.5], [0.7])
    assert "70.0" in format_comparison(comparison)
    for told in (format_comparison, format_markdown, render_comparison):
        assert "None" not in told(comparison)
