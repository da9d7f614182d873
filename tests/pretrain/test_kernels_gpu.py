"""`python -m benchmarks.gpu` from end to end, under Triton's interpreter, and what it finds.

It compares the kernels with their twins, compiles them for GPUs that are not there, and counts the
launches of a step against stated limits.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpu import PARTS, Outcome, Part, page, run_parts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder that a run of everything left, and what it said."""
    out = tmp_path_factory.mktemp("gpu")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--out", out, "--tiny", "--seconds", "3000"],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    said = "\n".join(path.read_text() for path in sorted(out.glob("*.txt")))
    return out, done.returncode, done.stdout + done.stderr + said


@pytest.fixture(scope="module")
def found(ran):
    """What each part found."""
    parts = json.loads((ran[0] / "gpu.json").read_text())["parts"]
    return {name: part["found"] for name, part in parts.items()}


def test_the_whole_benchmark_runs_without_a_gpu_and_claims_no_times(ran, found):
    out, code, said = ran
    assert code == 0, said
    assert list(found) == [part.name for part in PARTS]
    assert found["timed"]["ratios"] == {}
    assert all("ours" in each["seconds"] for each in found["timed"]["operations"].values())
    written = (out / "gpu.md").read_text()
    assert "Run without a GPU" in written
    assert "Times on CPU (no GPU)" in written


def test_the_step_has_the_losses_of_one_written_by_hand(found):
    [(name, parity)] = [
        (name, ratio) for name, ratio in found["step"]["ratios"].items() if "parity" in name
    ]
    assert parity["low"] >= 1.0, name
    assert {"ours", "plain"} <= set(next(iter(found["step"]["workloads"].values()))["seconds"])


def test_every_kernel_is_as_exact_as_its_plain_twin_under_the_interpreter(found):
    results = found["numerics"]["results"]
    assert [result for result in results if not result["met"]] == []
    kinds = {"loss", "weighted", "EMA", "AdamW", "LARS", "pictures"}
    assert {result["case"].split()[0] for result in results} == kinds


def test_every_kernel_compiles_for_three_gpu_generations_without_spills(found):
    for name, by_gpu in found["compiled"]["kernels"].items():
        assert set(by_gpu) == {"sm_80", "sm_90", "sm_100"}, name
        for built in by_gpu.values():
            assert built["cubin_bytes"] > 0, name
            assert built["spilled_bytes"] == 0, name
            assert built["wide_loads"] >= found["compiled"]["least_wide_loads"][name], name
            assert built["registers"] <= found["compiled"]["most_registers"][name], name


def test_the_loss_of_all_pairs_and_its_gradient_are_two_launches(found):
    costs = found["launches"]["costs"]
    for name in (
        "loss float32",
        "weighted loss float32",
        "loss bfloat16",
        "weighted loss bfloat16",
    ):
        assert costs[f"{name}, fused"]["launches"] == 2, name
        assert costs[f"{name}, reference"]["launches"] > 20, name


def test_the_kernels_keep_no_more_for_the_backward_pass_than_the_twins(found):
    costs = found["launches"]["costs"]
    for name in ("loss float32", "loss bfloat16", "step"):
        kept, plain = (costs[f"{name}, {k}"]["saved_bytes"] for k in ("fused", "reference"))
        assert kept <= plain, name


def test_the_target_follows_in_one_launch_however_many_tensors_it_has(found):
    cost = found["launches"]["costs"]["EMA of a step, fused"]
    assert cost == {"operators": 0, "triton_launches": 1, "launches": 1, "saved_bytes": 0}


def test_all_changes_of_a_batch_of_pictures_are_two_launches(found):
    costs = found["launches"]["costs"]
    assert costs["views of 4 pictures, fused"]["launches"] == 2
    assert costs["views of 4 pictures, reference"]["launches"] > 4 * 40


def test_a_step_of_lars_is_two_launches_however_many_layers_it_has(found):
    costs = found["launches"]["costs"]
    assert costs["LARS of 30 layers, fused"]["launches"] == 2
    assert costs["LARS of 30 layers, reference"]["launches"] > 30 * 5


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """Stands in for the parts: scripts that end as asked."""

    def of(**texts):
        parts = []
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
            parts.append(Part(name=name, script=f"{name}.py", seconds=60))
        monkeypatch.setattr("gpu.FOLDER", tmp_path)
        monkeypatch.setattr("gpu.PARTS", tuple(parts))
        return tmp_path

    return of


def test_nothing_is_timed_where_the_kernels_are_wrong(scripts):
    out = scripts(numerics="raise SystemExit(1)", timed="")
    assert [o.outcome for o in run_parts(out, tiny=True, most_seconds=60)] == ["failed"]


def test_a_part_that_takes_too_long_is_ended_and_named_and_what_it_wrote_is_kept(scripts):
    slow = "import sys, time; open(sys.argv[-1], 'w').write('{\"a\": 1}'); time.sleep(60)"
    out = scripts(numerics=slow)
    [outcome] = run_parts(out, tiny=True, most_seconds=3)
    assert outcome.outcome == "out of time"
    assert outcome.found == {"a": 1}


def test_what_does_not_fit_into_the_time_is_left_out_by_name(scripts):
    out = scripts(numerics="", timed="")
    found = run_parts(out, tiny=True, most_seconds=0.0)
    assert [(o.name, o.outcome) for o in found] == [
        ("numerics", "out of time"),
        ("timed", "out of time"),
    ]


def test_the_page_shows_a_ratio_only_where_it_was_measured():
    operation = {"seconds": {"eager": [2e-6], "ours": [1e-6]}, "needed_bytes": 10}
    found = {
        "device": "some GPU",
        "copy_bytes_per_second": 4e12,
        "left_out": 1,
        "ratios": {"eager / ours: loss": {"median": 2.0}},
        "operations": {"loss": operation, "EMA": operation},
    }
    outcome = Outcome(name="timed", outcome="done", seconds=1.0, found=found)
    written = page([outcome], {"gpu": "some GPU", "torch": "2"}, tiny=False)
    assert "| loss | 0.0 | 2.0 | 1.0 |  |  | 2.00 |" in written
    assert "| EMA | 0.0 | 2.0 | 1.0 |  |  |  |" in written
    assert "1 operations left out" in written
