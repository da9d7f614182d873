"""Runs compared by other probes than the linear one, each by itself."""

import dataclasses

import pytest

from eval.pages.compare_runs import compare_runs
from eval.pages.runs_page import render_comparison
from eval.pages.runs_table import format_comparison, format_markdown
from eval.probes.probe_report import OtherProbe
from tiny_probes import BASE, report, shifted, subset, write_run

TOLD = (format_comparison, format_markdown, render_comparison)


def with_others(by, others=("knn", "few-shot 1 %", "few-shot 10 %"), protocol=None, **options):
    """A probe report whose other probes are better by this much; its linear one is not."""
    part = subset("text", list(BASE))
    probes = {
        name: OtherProbe(
            pretrained=subset("text", shifted(by)).pretrained,
            random=part.floors["random"],
            random_seeds={"0": 0.3},
            versus_random=part.versus_random,
            num_trained_on=(5,) * 10,
            chosen=({},) * 10,
        )
        for name in others
    }
    asked = {name.partition(" ")[0]: {"options": 1} for name in others} | options
    asked = {"others": asked} | (protocol or {})
    return report([dataclasses.replace(part, others=probes)], protocol=asked)


def tables(tmp_path, *reports):
    """By method; of runs named ``run0``, ``run1``, ..."""
    runs = [write_run(tmp_path / f"run{place}", one) for place, one in enumerate(reports)]
    return {table.method: table for table in compare_runs(runs, which="newest").tables}


def test_other_probes_are_compared_each_in_a_table_of_its_own(tmp_path):
    runs = [write_run(tmp_path / f"run{place}", with_others(0.1 * place)) for place in range(2)]
    comparison = compare_runs(runs, which="newest")
    found = {table.method: table for table in comparison.tables}
    assert list(found) == ["linear", "knn", "few-shot 1 %", "few-shot 10 %"]
    verdicts = [table.differences["text"]["run1"].verdict for table in found.values()]
    assert verdicts == ["within", "better", "better", "better"]
    assert [list(one.floors) for one in found["knn"].answers["run0"].scored.values()] == [
        ["random"]
    ]
    for form in TOLD:
        assert "mood, few-shot 1 %" in form(comparison)


def test_other_options_of_one_probe_hinder_that_probe_alone(tmp_path):
    made = tables(tmp_path, with_others(0.0), with_others(0.1, knn={"options": 2}))
    found = {method: table.differences["text"]["run1"] for method, table in made.items()}
    assert found["knn"].reason == "other protocols (knn.options)"
    assert [found[name].verdict for name in ("linear", "few-shot 1 %")] == ["within", "better"]


LEARNERS = {
    "linear.inverse_regularisation": {"linear": {"inverse_regularisation": [1.0]}},
    "classifier": {"classifier": "another one"},
    "ridge.penalty": {"ridge": {"penalty": [1.0]}},
    "regressor": {"regressor": "another one"},
}


@pytest.mark.parametrize("named", LEARNERS)
def test_another_linear_learner_hinders_what_is_fitted_by_it_alone(tmp_path, named):
    kinds = ("knn", "attentive", "few-shot 5 %")
    other = with_others(0.1, kinds, LEARNERS[named])
    made = tables(tmp_path, with_others(0.1, kinds), with_others(0.0, kinds), other)
    found = {method: table.differences["text"]["run2"] for method, table in made.items()}
    verdicts = [found[method].verdict for method in ("linear", *kinds)]
    assert verdicts == ["unlike", "within", "within", "unlike"]
    assert all(named in found[method].reason for method in ("linear", "few-shot 5 %"))


@pytest.mark.parametrize("named", ["selection", "standardisation", "interval"])
def test_what_every_probe_depends_on_hinders_all(tmp_path, named):
    kinds = ("knn", "attentive", "few-shot 5 %")
    made = tables(tmp_path, with_others(0.0, kinds), with_others(0.1, kinds, {named: "other"}))
    assert list(made) == ["linear", *kinds]
    for table in made.values():
        assert table.differences["text"]["run1"].reason == f"other protocols ({named})"


def test_a_run_without_a_probe_of_that_kind_is_named_with_what_to_do(tmp_path):
    reports = [with_others(0.0), with_others(0.1), with_others(0.0, others=())]
    runs = [write_run(tmp_path / f"run{place}", one) for place, one in enumerate(reports)]
    found = compare_runs(runs, which="newest").tables
    (table,) = [one for one in found if one.method == "few-shot 10 %"]
    expected = f"no few-shot 10 % probe on it: triptych probe {runs[2]} TASK --also few-shot"
    assert table.left_out == {"run2": expected}
